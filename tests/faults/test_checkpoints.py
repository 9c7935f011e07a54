"""Workers killed in the middle of long work: it goes on where it was, and ends once as if undisturbed."""

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from api_schemas.events import EventType
from api_schemas.jobs import JobStatus
from store.records import BlobRef, JobRecord
from tests.faults.test_processes import LEASE_SECONDS, publications
from tests.faults.worker_process import WorkerProcess, children_of, eventually, worker_process
from tests.worker.workplace import Workplace, open_workplace, supervising

OFTEN = {"LOOKAHEAD_CHECKPOINT_SECONDS": "0.1"}
STEPS = 100


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    with open_workplace(tmp_path, lease_seconds=LEASE_SECONDS, sweep_seconds=0.2) as opened:
        yield opened


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> BlobRef:
    """What the job comes to when nobody disturbs it."""
    with open_workplace(tmp_path_factory.mktemp("unbroken")) as place, supervising(place) as supervisor:
        job = place.submit("train")
        supervisor.drain()
        model = place.job(job).model
        assert model is not None
        return model


def steps(place: Workplace, job: JobRecord) -> list[int]:
    """The steps that were done, by all attempts, in order."""
    return [event.data["step"] for event in place.events(job) if event.type is EventType.METRIC]


def checkpoints(place: Workplace, job: JobRecord, action: str) -> int:
    """How often one was ``saved``, or the job ``resumed`` from one."""
    found = [event.data for event in place.events(job) if event.type is EventType.CHECKPOINT]
    return [data["action"] for data in found].count(action)


def kill_when_saved(place: Workplace, worker: WorkerProcess, job: JobRecord, step: int) -> BlobRef:
    """Kill the worker -9 once a checkpoint of at least that many steps is kept."""
    place.wait_for(job, lambda _: max(steps(place, job), default=0) >= step)
    before = checkpoints(place, job, "saved")
    eventually(lambda: checkpoints(place, job, "saved") > before)
    worker.signal(signal.SIGKILL)
    worker.wait_exit()
    kept = place.job(job).checkpoint
    assert kept is not None
    return kept


def ended_well(place: Workplace, job: JobRecord, unbroken: BlobRef) -> JobRecord:
    """The job, once it has ended as an undisturbed one does, with nothing left of its checkpoints."""
    ended = place.wait_finished(job)
    assert ended.status is JobStatus.SUCCEEDED, ended.error
    assert ended.model == unbroken and ended.checkpoint is None
    assert publications(place, job) == 1
    eventually(lambda: place.store.checkpoints.jobs() == () or place.store.collect_garbage(0) is None)
    return ended


def test_another_worker_goes_on_where_a_killed_one_was(place: Workplace, unbroken: BlobRef) -> None:
    job = place.submit("train")
    with worker_process(place, name="a", **OFTEN) as first:
        kill_when_saved(place, first, job, STEPS // 3)
        with worker_process(place, name="b", **OFTEN):
            ended = ended_well(place, job, unbroken)
    assert ended.attempts == 2 and checkpoints(place, job, "resumed") == 1
    done = steps(place, job)
    back = [place for place, (earlier, later) in enumerate(itertools.pairwise(done), 1) if later <= earlier]
    again = done[back[0]] if back else done[-1]  # killed as it saved: nothing was gone through twice
    assert again > STEPS // 6, "the second attempt began with what the first had saved"


def test_killed_while_naming_a_checkpoint(place: Workplace, unbroken: BlobRef) -> None:
    job = place.submit("train")
    fault = {"LOOKAHEAD_FAILPOINT": "supervisor.checkpointed:kill"}
    with worker_process(place, name="a", **OFTEN, **fault) as first:
        assert first.wait_exit() == -signal.SIGKILL
        with worker_process(place, name="b", **OFTEN) as second:
            ended = ended_well(place, job, unbroken)
            second.signal(signal.SIGTERM)
            assert second.wait_exit() == 0
    assert ended.attempts == 2 and checkpoints(place, job, "resumed") == 1
    assert place.scratch_left() == []


def test_a_killed_child_goes_on_in_the_same_worker(place: Workplace, unbroken: BlobRef) -> None:
    job = place.submit("train")
    with worker_process(place, name="a", **OFTEN):
        eventually(lambda: checkpoints(place, job, "saved") > 1)
        for child in busy_children(place):
            os.kill(child, signal.SIGKILL)
        ended = ended_well(place, job, unbroken)
    assert ended.attempts == 2 and checkpoints(place, job, "resumed") == 1


def busy_children(place: Workplace) -> list[int]:
    """Children with a model in their folder; the spare has none."""
    busy = [path.parts[-4] for path in place.settings.scratch.glob("*/work/input/model.onnx")]
    return [
        pid
        for pid in children_of(place)
        if any(name in Path(f"/proc/{pid}/cmdline").read_text() for name in busy)
    ]


def test_a_job_outlives_more_killed_workers_than_it_has_attempts(place: Workplace, unbroken: BlobRef) -> None:
    """As on machines that are taken away every few minutes: each attempt comes a little further."""
    job = place.submit("train", max_attempts=1)
    with ExitStack() as stack:
        for number in range(3):
            worker = stack.enter_context(worker_process(place, name=f"w{number}", **OFTEN))
            kill_when_saved(place, worker, job, (number + 1) * STEPS // 5)
        stack.enter_context(worker_process(place, name="last", **OFTEN))
        ended = ended_well(place, job, unbroken)
    assert ended.attempts == 4 and checkpoints(place, job, "resumed") == 3


def test_a_worker_that_is_asked_to_stop_hands_on_what_it_has_saved(
    place: Workplace, unbroken: BlobRef
) -> None:
    job = place.submit("train")
    with worker_process(place, name="a", **OFTEN) as first:
        eventually(lambda: checkpoints(place, job, "saved") > 1)
        first.signal(signal.SIGTERM)
        assert first.wait_exit() == 0
        released = place.job(job)
        assert released.status is JobStatus.QUEUED and released.attempts == 0
        with worker_process(place, name="b", **OFTEN):
            ended = ended_well(place, job, unbroken)
    assert ended.attempts == 1 and checkpoints(place, job, "resumed") == 1


def test_a_worker_that_is_asked_to_stop_has_its_child_save_once_more(
    place: Workplace, unbroken: BlobRef
) -> None:
    job = place.submit("train")
    rarely = {"LOOKAHEAD_CHECKPOINT_SECONDS": "1.5"}
    with worker_process(place, name="a", **rarely) as first:
        eventually(lambda: checkpoints(place, job, "saved") == 1)
        eventually(lambda: max(steps(place, job)) > STEPS // 2)
        first.signal(signal.SIGTERM)
        assert first.wait_exit() == 0
        stopped_at = max(steps(place, job))
        with worker_process(place, name="b", **rarely):
            ended_well(place, job, unbroken)
    done = steps(place, job)
    again = done[done.index(stopped_at) + 1 :]
    assert min(again) > STEPS // 2, "nothing since the last regular checkpoint was lost"


def test_a_checkpoint_that_is_gone_costs_the_work_not_the_job(place: Workplace, unbroken: BlobRef) -> None:
    job = place.submit("train")
    with worker_process(place, name="a", **OFTEN) as first:
        kill_when_saved(place, first, job, STEPS // 5)
        place.store.checkpoints.discard(job.id)
        with worker_process(place, name="b", **OFTEN):
            ended_well(place, job, unbroken)
    warnings = [event.data["message"] for event in place.events(job) if event.type is EventType.WARNING]
    assert warnings == ["The checkpoint of the attempt before cannot be read; the job starts over."]
    assert steps(place, job).count(0) == 2 and checkpoints(place, job, "resumed") == 0


def test_a_worker_that_wakes_too_late_does_not_touch_the_checkpoint(
    place: Workplace, unbroken: BlobRef
) -> None:
    job = place.submit("train")
    with worker_process(place, name="a", **OFTEN) as first:
        eventually(lambda: checkpoints(place, job, "saved") > 0)
        first.signal(signal.SIGSTOP)
        with worker_process(place, name="b", **OFTEN):
            place.wait_for(job, lambda present: present.attempts == 2)
            first.signal(signal.SIGCONT)
            ended = ended_well(place, job, unbroken)
    assert ended.attempts == 2 and checkpoints(place, job, "resumed") == 1

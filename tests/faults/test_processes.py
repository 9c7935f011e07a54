"""Workers killed, paused and asked to stop at chosen moments. Nothing is lost, nothing published twice."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_schemas.events import EventType
from api_schemas.jobs import JobStatus
from store.records import JobRecord
from tests.faults.worker_process import children_of, eventually, worker_process
from tests.worker.workplace import Workplace, open_workplace

LEASE_SECONDS = 2.0
POINTS = ("claimed", "child_started", "before_publish", "published", "before_finish", "finished")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    with open_workplace(tmp_path, lease_seconds=LEASE_SECONDS, sweep_seconds=0.2) as opened:
        yield opened


def publications(place: Workplace, job: JobRecord) -> int:
    """How often the job was said to have succeeded."""
    ends = [event.data for event in place.events(job) if event.type is EventType.STATUS]
    return [data["status"] for data in ends].count("succeeded")


def is_running(job: JobRecord) -> bool:
    return job.status is JobStatus.RUNNING


def test_no_child_outlives_a_killed_supervisor(place: Workplace) -> None:
    job = place.submit("silent")
    with worker_process(place, name="a") as worker:
        place.wait_for(job, lambda present: present.stage == "scoring")
        assert children_of(place)
        worker.signal(signal.SIGKILL)
        worker.wait_exit()
        eventually(lambda: not children_of(place), seconds=2)


def test_another_worker_takes_over_from_a_killed_one(place: Workplace) -> None:
    job = place.submit("steady")
    with worker_process(place, name="a") as first:
        place.wait_for(job, lambda present: present.progress.done > 2)
        first.signal(signal.SIGKILL)
        with worker_process(place, name="b"):
            ended = place.wait_finished(job)
    assert ended.status is JobStatus.SUCCEEDED and ended.attempts == 2
    assert publications(place, job) == 1


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(place: Workplace, point: str) -> None:
    """The job ends well wherever its worker was killed, and the crash leaves no files once swept."""
    job = place.submit("ok")
    with worker_process(place, name="a", LOOKAHEAD_FAILPOINT=f"supervisor.{point}:kill") as first:
        assert first.wait_exit() == -signal.SIGKILL
        with worker_process(place, name="b") as second:
            second.wait_logged("started")
            ended = place.wait_finished(job)
            second.signal(signal.SIGTERM)
            assert second.wait_exit() == 0
    assert ended.status is JobStatus.SUCCEEDED
    assert ended.attempts == (1 if point == "finished" else 2)
    assert publications(place, job) == 1
    assert place.scratch_left() == []
    assert not children_of(place)


def test_a_worker_paused_past_its_lease_may_not_publish(place: Workplace) -> None:
    job = place.submit("ok")
    with worker_process(place, name="a", LOOKAHEAD_FAILPOINT="supervisor.before_finish:stop") as first:
        eventually(first.paused)
        with worker_process(place, name="b"):
            ended = place.wait_finished(job)
        first.signal(signal.SIGCONT)
        first.wait_logged("write refused: the lease has passed on")
        assert place.job(job) == ended
    assert ended.status is JobStatus.SUCCEEDED and ended.attempts == 2
    assert publications(place, job) == 1


def test_a_worker_paused_while_its_child_runs_drops_the_job_when_it_wakes(place: Workplace) -> None:
    job = place.submit("endless")
    with worker_process(place, name="a") as first:
        place.wait_for(job, lambda present: present.progress.done == 1)
        first.signal(signal.SIGSTOP)
        with worker_process(place, name="b"):
            place.wait_for(job, lambda present: present.attempts == 2)
            first.signal(signal.SIGCONT)
            first.wait_logged("abandoned")
            assert place.job(job).attempts == 2
            place.store.jobs.cancel(job.id)
            assert place.wait_finished(job).status is JobStatus.CANCELLED


def test_sigterm_gives_the_job_back_and_counts_no_attempt(place: Workplace) -> None:
    job = place.submit("endless")
    with worker_process(place, name="a") as worker:
        place.wait_for(job, is_running)
        worker.signal(signal.SIGTERM)
        assert worker.wait_exit() == 0
    released = place.job(job)
    assert released.status is JobStatus.QUEUED and released.attempts == 0
    assert not children_of(place) and place.scratch_left() == []
    assert place.store.workers.alive() == ()


def test_an_unexpected_error_in_the_supervisor_costs_attempts_not_the_worker(place: Workplace) -> None:
    bad = place.submit("ok", max_attempts=2)
    with worker_process(place, name="a", LOOKAHEAD_FAILPOINT="supervisor.published:raise") as worker:
        ended = place.wait_finished(bad)
        assert ended.status is JobStatus.FAILED and ended.attempts == 2
        assert ended.error is not None and ended.error.code == "internal"
        assert worker.process.poll() is None

"""Jobs with several processes: confined, told apart, and ended together however one of them ends."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from api_schemas.errors import ErrorCode
from api_schemas.events import EventType
from api_schemas.jobs import JobStatus
from store.records import JobKind, JobRecord
from tests.faults.worker_process import children_of, eventually
from tests.store import samples
from tests.worker.workplace import Workplace, open_workplace, scripted, small_onnx, supervising
from worker import devices
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor, launch_of

MIB = 1024 * 1024


@contextmanager
def crewed(folder: Path, **changes: object) -> Iterator[Workplace]:
    settings = {"devices": 2, "memory_bytes": 1024 * MIB, "max_output_bytes": 4 * MIB, **changes}
    with open_workplace(folder, max_checkpoint_bytes=4 * MIB, **settings) as place:
        yield place


@contextmanager
def crew_supervisor(place: Workplace) -> Iterator[Supervisor]:
    launch = replace(scripted(place.settings), engine="crew_engine:run_order")
    with supervising(place, launch) as supervisor:
        yield supervisor


def submit(place: Workplace, behaviour: str, kind: JobKind = JobKind.PRUNE, **new: object) -> JobRecord:
    """A job with data and a recovery, so that there is something to train."""
    model = place.add_model(f"{behaviour}.onnx", small_onnx())
    path = place.settings.data_dir / "rows"
    path.write_bytes(b"rows")
    blob = place.store.blobs.publish(path, "rows.npz")
    dataset = place.store.datasets.add(replace(samples.dataset(), sha256=blob.sha256))
    return place.submit_for(model, kind, dataset_id=dataset.id, **{"max_attempts": 3, **new})


def run(folder: Path, behaviour: str, **changes: object) -> JobRecord:
    with crewed(folder, **changes) as place:
        job = submit(place, behaviour)
        with crew_supervisor(place) as supervisor:
            supervisor.drain()
        assert place.scratch_left() == [] and children_of(place) == []
        return place.job(job)


def test_all_have_the_files_and_a_place_and_only_the_leader_is_heard(tmp_path: Path) -> None:
    with crewed(tmp_path, devices=3, threads=6) as place:
        job = submit(place, "meet-meet")
        with crew_supervisor(place) as supervisor:
            supervisor.drain()
        assert place.job(job).status is JobStatus.SUCCEEDED, place.job(job).error
        said = [event.data["message"] for event in place.events(job) if event.type is EventType.WARNING]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    assert said == [" ".join(f"{rank}:2:{visible}:strict:dataset.npz,model.onnx" for rank in range(3))]


def test_what_has_nothing_to_train_has_one_process(tmp_path: Path) -> None:
    with crewed(tmp_path) as place:
        jobs = [submit(place, "alone", JobKind.INSPECT), submit(place, "alone", JobKind.PLAN)]
        jobs.append(place.submit_for(place.add_model("alone.onnx", small_onnx())))
        with crew_supervisor(place) as supervisor:
            supervisor.drain()
        assert [place.job(job).status for job in jobs] == [JobStatus.SUCCEEDED] * 3


@pytest.mark.parametrize(
    ("behaviour", "code", "attempts"),
    [
        ("wait-killed", ErrorCode.OUT_OF_MEMORY, 3),  # the kernel's killer, for all that we know
        ("wait-segfault", ErrorCode.WORKER_LOST, 3),
        ("wait-vanish", ErrorCode.WORKER_LOST, 3),
        ("killed-wait", ErrorCode.OUT_OF_MEMORY, 3),
        ("endless-killed", ErrorCode.OUT_OF_MEMORY, 3),  # the leader is not waiting for anybody
        ("wait-execute", ErrorCode.SANDBOX_VIOLATION, 1),
        ("wait-memory", ErrorCode.OUT_OF_MEMORY, 1),
        ("wait-refuse", ErrorCode.INVALID_MODEL, 1),
        ("refuse-stuck", ErrorCode.INVALID_MODEL, 1),
        ("refuse-denied", ErrorCode.INVALID_MODEL, 1),  # the leader's word is that of the job
        ("wait-garbage", ErrorCode.SANDBOX_VIOLATION, 1),
        ("wait-big_disk", ErrorCode.PAYLOAD_TOO_LARGE, 1),
    ],
)
def test_one_ends_and_so_does_the_job(tmp_path: Path, behaviour: str, code: ErrorCode, attempts: int) -> None:
    job = run(tmp_path, behaviour)
    assert job.error is not None and (job.error.code, job.attempts) == (code, attempts), job.error


def test_a_peer_that_does_not_get_on_silences_the_leader(tmp_path: Path) -> None:
    job = run(tmp_path, "wait-stuck", stage_seconds=1)
    assert job.error is not None and job.error.code is ErrorCode.TIME_LIMIT


def test_memory_is_watched_in_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.execution.device", lambda: "cuda")  # then no child has a limit of its own
    job = run(tmp_path, "endless-hoard", memory_bytes=512 * MIB)
    assert job.error is not None and job.error.code is ErrorCode.OUT_OF_MEMORY and job.attempts == 1


def in_the_middle(folder: Path, behaviour: str, act: Callable[[Workplace, JobRecord, Supervisor], None]):
    """The job as it is after something is done while it runs."""
    with crewed(folder) as place, crew_supervisor(place) as supervisor:
        job = submit(place, behaviour)
        thread = Thread(target=supervisor.drain)
        thread.start()
        eventually(lambda: place.job(job).stage is not None and place.job(job).stage.value != "starting")
        assert len(children_of(place)) >= 2
        act(place, job, supervisor)
        thread.join(60)
        supervisor.close()
        assert not thread.is_alive() and children_of(place) == []
        return place.job(job)


def test_a_cancel_ends_all(tmp_path: Path) -> None:
    job = in_the_middle(tmp_path, "endless-stuck", lambda place, job, _: place.store.jobs.cancel(job.id))
    assert job.status is JobStatus.CANCELLED


def test_a_stop_gives_the_job_back(tmp_path: Path) -> None:
    job = in_the_middle(tmp_path, "endless-stuck", lambda *given: given[2].stop())
    assert job.status is JobStatus.QUEUED and job.attempts == 0


def test_every_process_sees_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver's files and the worker's environment say; no GPU is used."""
    fake = tmp_path / "dev"
    fake.mkdir()
    for name in ("nvidiactl", "nvidia0", "nvidia3", "nvidia-uvm", "nvidia-caps"):
        (fake / name).touch()
    monkeypatch.setattr(devices, "_DEVICES", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    settings = WorkerSettings(data_dir=tmp_path)
    assert settings.devices == 2 and launch_of(settings).devices == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa, GPU-bb,GPU-cc")
    assert launch_of(WorkerSettings(data_dir=tmp_path)).devices == ("GPU-aa", "GPU-bb", "GPU-cc")
    two = launch_of(WorkerSettings(data_dir=tmp_path, devices=2))
    assert (two.processes, two.devices) == (2, ("GPU-aa", "GPU-bb"))
    one = launch_of(WorkerSettings(data_dir=tmp_path, devices=1))
    assert (one.processes, one.devices) == (1, ())
    with pytest.raises(ValueError, match="GPUs for 3 processes, not for 4"):
        WorkerSettings(data_dir=tmp_path, devices=4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert WorkerSettings(data_dir=tmp_path).devices == 1

"""What the supervisor makes of each way in which a child can end. Children are real and confined."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from api_schemas.errors import ErrorCode, JobError
from api_schemas.events import EventType
from api_schemas.jobs import JobStatus
from api_schemas.models import ModelFormat
from api_schemas.report import Report
from store.records import JobKind
from tests.worker.workplace import (
    Workplace,
    digest,
    open_workplace,
    settings_for,
    small_onnx,
    supervising,
)
from worker.settings import WorkerSettings
from worker.verdict import child_error

MIB = 1024 * 1024


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    sizes = {"memory_bytes": 512 * MIB, "max_output_bytes": 4 * MIB, "max_checkpoint_bytes": 4 * MIB}
    with open_workplace(tmp_path, **sizes) as opened:
        yield opened


def run(place: Workplace, behaviour: str, kind: JobKind = JobKind.PRUNE, max_attempts: int = 1):
    job = place.submit(behaviour, kind, max_attempts=max_attempts)
    with supervising(place) as supervisor:
        supervisor.drain()
    assert place.scratch_left() == []
    return place.job(job)


def test_a_job_ends_with_its_files_published(place: Workplace) -> None:
    job = run(place, "ok")
    assert job.status is JobStatus.SUCCEEDED and job.attempts == 1
    assert job.model is not None and job.report is not None and job.page is not None
    assert job.model.sha256 == digest(small_onnx()) and job.model.filename == "ok.pruned.onnx"
    report = Report.model_validate_json(place.store.blobs.read(job.report.sha256))
    assert report.job_id == job.id and report.environment.sandbox == "strict"
    assert job.summary == report.summary
    assert job.page.filename == "ok.report.html"


def test_events_come_in_order_and_end_with_the_status(place: Workplace) -> None:
    job = run(place, "ok")
    events = place.events(job)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    stages = [event.data["stage"] for event in events if event.type is EventType.STAGE]
    assert stages == ["starting", "loading", "measuring", "publishing"]
    assert {"name": "loss", "value": 0.25, "step": 7} in [event.data for event in events]
    assert events[-1].type is EventType.STATUS and events[-1].data["status"] == "succeeded"


def test_an_inspection_reaches_the_model(place: Workplace) -> None:
    job = run(place, "ok", JobKind.INSPECT)
    assert job.status is JobStatus.SUCCEEDED
    inspection = place.store.models.get(job.model_id).inspection
    assert inspection is not None and [layer.name for layer in inspection.layers] == ["conv\ufffd.weight"]


def test_a_plan_is_kept_with_the_job(place: Workplace) -> None:
    job = run(place, "ok", JobKind.PLAN)
    assert job.plan is not None and job.plan["sparsity"] == 0.5


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("segfault", ErrorCode.WORKER_LOST),
        ("vanish", ErrorCode.WORKER_LOST),
        ("memory", ErrorCode.OUT_OF_MEMORY),
        ("abort_for_memory", ErrorCode.OUT_OF_MEMORY),
        ("killed", ErrorCode.OUT_OF_MEMORY),
        ("busy", ErrorCode.TIME_LIMIT),
        ("exit", ErrorCode.INTERNAL),
        ("bug", ErrorCode.INTERNAL),
        ("refuse", ErrorCode.INVALID_MODEL),
        ("denied", ErrorCode.SANDBOX_VIOLATION),
        ("passwd", ErrorCode.SANDBOX_VIOLATION),
        ("socket", ErrorCode.SANDBOX_VIOLATION),
        ("execute", ErrorCode.SANDBOX_VIOLATION),
        ("garbage", ErrorCode.SANDBOX_VIOLATION),
        ("endless_line", ErrorCode.SANDBOX_VIOLATION),
        ("foreign_code", ErrorCode.INTERNAL),
        ("big_disk", ErrorCode.PAYLOAD_TOO_LARGE),
        ("symlink", ErrorCode.SANDBOX_VIOLATION),
        ("hardlink", ErrorCode.INTERNAL),
        ("outside", ErrorCode.INTERNAL),
        ("missing", ErrorCode.INTERNAL),
        ("other_format", ErrorCode.INTERNAL),
        ("lying_report", ErrorCode.INTERNAL),
        ("other_job", ErrorCode.INTERNAL),
        ("bad_report", ErrorCode.INTERNAL),
    ],
)
def test_a_child_that_goes_wrong_leaves_a_failed_job_and_a_living_supervisor(
    place: Workplace, behaviour: str, code: ErrorCode
) -> None:
    bad, good = place.submit(behaviour, max_attempts=1), place.submit("ok")
    with supervising(place) as supervisor:
        supervisor.drain()
    failed = place.job(bad)
    assert failed.status is JobStatus.FAILED and failed.error is not None
    assert failed.error.code is code
    assert failed.model is None and failed.report is None
    assert "secret detail" not in failed.error.message and "Traceback" not in failed.error.message
    assert place.job(good).status is JobStatus.SUCCEEDED
    assert place.scratch_left() == []


def test_text_from_the_child_is_made_safe(place: Workplace) -> None:
    error = run(place, "refuse").error
    assert error is not None
    assert error.message == "layer [31mred [0m <script> cannot be pruned" and error.hint == "a b"


def test_a_crash_is_tried_as_often_as_allowed(place: Workplace) -> None:
    job = run(place, "segfault", max_attempts=3)
    assert job.status is JobStatus.FAILED and job.attempts == 3
    assert job.error is not None and job.error.code is ErrorCode.WORKER_LOST


def test_an_error_of_the_model_is_not_tried_again(place: Workplace) -> None:
    assert run(place, "refuse", max_attempts=3).attempts == 1


def test_events_of_no_known_kind_are_dropped_and_text_is_cut(place: Workplace) -> None:
    job = run(place, "odd_events")
    assert job.status is JobStatus.SUCCEEDED
    events = place.events(job)
    warnings = [event.data for event in events if event.type is EventType.WARNING]
    assert [list(data) for data in warnings] == [["message"]]
    assert warnings[0]["message"].startswith("one two [2Jxxx") and len(warnings[0]["message"]) == 2000
    metrics = [event.data["name"] for event in events if event.type is EventType.METRIC]
    assert metrics == ["loss"]
    assert "world domination" not in str(events)


def test_a_flood_of_events_is_capped(place: Workplace) -> None:
    job = run(place, "flood")
    assert job.status is JobStatus.SUCCEEDED
    events = place.events(job)
    assert len(events) < 5_100
    assert all(len(event.data["name"]) <= 128 for event in events if event.type is EventType.METRIC)


def test_a_folder_the_child_locked_is_removed(place: Workplace) -> None:
    assert run(place, "locked_folder").status is JobStatus.SUCCEEDED


def test_torchscript_can_be_switched_off(tmp_path: Path) -> None:
    with open_workplace(tmp_path, torchscript_enabled=False) as place:
        job = place.submit_for(place.add_model("ok.pt", b"PK\x03\x04", ModelFormat.TORCHSCRIPT))
        with supervising(place) as supervisor:
            supervisor.drain()
        error = place.job(job).error
        assert error is not None and error.code is ErrorCode.UNSUPPORTED_FORMAT


def test_silence_ends_a_job_even_when_the_interpreter_is_locked(tmp_path: Path) -> None:
    with open_workplace(tmp_path, stage_seconds=1) as place:
        job = place.submit("silent", max_attempts=3)
        with supervising(place) as supervisor:
            supervisor.drain()
        ended = place.job(job)
        assert ended.error is not None and ended.error.code is ErrorCode.TIME_LIMIT and ended.attempts == 1


def test_a_job_that_never_ends_is_ended(tmp_path: Path) -> None:
    with open_workplace(tmp_path, job_seconds=1) as place:
        job = place.submit("endless", max_attempts=3)
        with supervising(place) as supervisor:
            supervisor.drain()
        ended = place.job(job)
        assert ended.error is not None and ended.error.code is ErrorCode.TIME_LIMIT and ended.attempts == 1


def test_memory_is_watched_where_address_space_is_not_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.execution.device", lambda: "cuda")  # then the child has no limit of its own
    with open_workplace(tmp_path, memory_bytes=256 * MIB) as place, caplog.at_level("INFO"):
        job = place.submit("hoard", max_attempts=3)
        with supervising(place) as supervisor:
            supervisor.drain()
        ended = place.job(job)
    assert ended.error is not None and ended.error.code is ErrorCode.OUT_OF_MEMORY and ended.attempts == 1
    assert ended.error.message == "The job needed more memory than a worker gives."


def test_false_checkpoints_are_refused_and_cost_nothing(tmp_path: Path) -> None:
    with open_workplace(tmp_path, checkpoint_seconds=0.01) as place:
        job = place.submit("false_checkpoints", max_attempts=1)
        with supervising(place) as supervisor:
            supervisor.drain()
        assert place.job(job).status is JobStatus.SUCCEEDED
        events = place.events(job)
        assert not [event for event in events if event.type is EventType.CHECKPOINT]
        assert place.store.checkpoints.jobs() == () and list(place.store.blobs.staging_dir().iterdir()) == []


def test_half_a_gigabyte_of_checkpoint_does_not_cost_the_lease(tmp_path: Path) -> None:
    with open_workplace(tmp_path, lease_seconds=1.5) as place:
        job = place.submit("heavy", max_attempts=1)
        with supervising(place) as supervisor:
            thread = threading.Thread(target=supervisor.drain)
            thread.start()
            kept = place.wait_for(job, lambda present: present.checkpoint or present.status.finished)
            assert kept.checkpoint is not None and kept.checkpoint.size_bytes == 512 * MIB
            place.store.jobs.cancel(job.id)
            thread.join()
        ended = place.job(job)
        assert ended.status is JobStatus.CANCELLED and ended.attempts == 1
        assert place.store.checkpoints.jobs() == ()


def test_data_that_does_not_fit_is_said_with_its_own_code() -> None:
    for code in (ErrorCode.NOT_FINITE, ErrorCode.TOO_FEW_ROWS, ErrorCode.LABELS_OUT_OF_RANGE):
        assert child_error(JobError(code=code, message="Look at the data.")).code is code


def test_a_training_job_is_cancelled_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    with open_workplace(tmp_path, checkpoint_seconds=0.05) as place:
        job = place.submit("train")
        with supervising(place) as supervisor:
            thread = threading.Thread(target=supervisor.drain)
            thread.start()
            running = place.wait_for(job, lambda present: present.checkpoint is not None)
            assert running.checkpoint_at is not None
            place.store.jobs.cancel(job.id)
            ended = place.wait_finished(job)
            thread.join()
        assert ended.status is JobStatus.CANCELLED and ended.checkpoint is None
        place.store.collect_garbage(0)  # one may have been on its way
        assert place.store.checkpoints.jobs() == ()
        saved = [event.data for event in place.events(job) if event.type is EventType.CHECKPOINT]
        assert saved and all(set(data) == {"action", "size_bytes"} for data in saved)


def test_a_running_job_is_cancelled(place: Workplace) -> None:
    job = place.submit("endless")
    with supervising(place) as supervisor:
        thread = threading.Thread(target=supervisor.drain)
        thread.start()
        place.wait_for(job, lambda present: present.progress.done == 1)
        place.store.jobs.cancel(job.id)
        place.store.jobs.cancel(job.id)
        assert place.wait_finished(job).status is JobStatus.CANCELLED
        thread.join()


def test_a_stopped_supervisor_gives_the_job_back_without_counting_the_attempt(place: Workplace) -> None:
    job = place.submit("endless")
    with supervising(place) as supervisor:
        thread = threading.Thread(target=supervisor.drain)
        thread.start()
        place.wait_for(job, lambda present: present.status is JobStatus.RUNNING)
        supervisor.stop()
        thread.join()
        released = place.job(job)
        assert released.status is JobStatus.QUEUED and released.attempts == 0
        assert supervisor.drain() == 0


def test_a_named_job_comes_first_and_the_others_follow(place: Workplace) -> None:
    jobs = [place.submit("ok") for _ in range(3)]
    with supervising(place) as supervisor:
        assert supervisor.drain(jobs[2].id) == 3
        assert supervisor.drain(jobs[2].id) == 0
    ends = [place.job(job).finished_at for job in jobs]
    assert all(ends) and ends[2] < ends[0] < ends[1]


def test_a_worker_for_questions_leaves_pruning_to_others(tmp_path: Path) -> None:
    """So a validation is answered while every other worker trains."""
    with open_workplace(tmp_path, job_kinds="inspect, plan") as place:
        pruning, question = place.submit("ok"), place.submit("ok", JobKind.PLAN)
        with supervising(place) as supervisor:
            assert supervisor.drain(pruning.id) == 1
        assert place.job(pruning).status is JobStatus.QUEUED
        assert place.job(question).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("kinds", ["", "prune,bake", " , "])
def test_kinds_of_jobs_that_there_are_not_are_refused(tmp_path: Path, kinds: str) -> None:
    with pytest.raises(ValidationError, match="job_kinds"):
        settings_for(tmp_path, job_kinds=kinds)


def test_a_worker_takes_all_kinds_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(WorkerSettings().job_kinds) == set(JobKind)
    monkeypatch.setenv("LOOKAHEAD_JOB_KINDS", "plan")
    assert WorkerSettings().job_kinds == (JobKind.PLAN,)


def test_the_supervisor_survives_without_loading_a_model(place: Workplace) -> None:
    """In a fresh interpreter the whole worker imports neither the engine nor what it needs."""
    import subprocess
    import sys

    code = (
        "import sys, worker.__main__, worker.child\n"
        "heavy = ('torch', 'onnx', 'onnxruntime', 'numpy', 'worker.engine.orders')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

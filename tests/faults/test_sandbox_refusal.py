"""A kernel without Landlock, played by a filter that answers ENOSYS to its system calls."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_schemas.jobs import JobStatus
from api_schemas.report import Report
from tests.faults import scripted_worker
from tests.faults.worker_process import WorkerProcess, settings_of, started
from tests.worker.workplace import Workplace, open_workplace

_WITHOUT_LANDLOCK = """
import errno, os, sys
import pyseccomp
filter_ = pyseccomp.SyscallFilter(defaction=pyseccomp.ALLOW)
filter_.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "landlock_create_ruleset")
filter_.load()
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    with open_workplace(tmp_path) as opened:
        yield opened


def without_landlock(place: Workplace, mode: str) -> "Iterator[WorkerProcess]":
    command = [sys.executable, "-c", _WITHOUT_LANDLOCK, scripted_worker.__file__]
    return started(command, settings_of(place, "a", {"LOOKAHEAD_SANDBOX": mode}))


def test_strict_refuses_to_start(place: Workplace) -> None:
    job = place.submit("ok")
    with without_landlock(place, "strict") as worker:
        assert worker.wait_exit() == 3
        assert worker.logged("no sandbox")
    assert place.job(job).status is JobStatus.QUEUED
    (announced,) = place.store.workers.alive()
    assert "landlock" in announced.sandbox and announced.detail["holds"] is False


def test_best_effort_runs_and_says_what_is_missing(place: Workplace) -> None:
    job = place.submit("ok")
    with without_landlock(place, "best_effort") as worker:
        ended = place.wait_finished(job)
        (announced,) = place.store.workers.alive()
        assert worker.process.poll() is None
    assert ended.status is JobStatus.SUCCEEDED and ended.report is not None
    report = Report.model_validate_json(place.store.blobs.read(ended.report.sha256))
    assert report.environment.sandbox == "best_effort, without landlock"
    assert announced.sandbox.startswith("best_effort, without landlock; got through: read /etc/passwd")
    assert announced.detail["holds"] is False

"""API and worker of a running `lookahead serve` are killed with -9 in mid-job: nothing is lost."""

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from api_schemas.events import EventType
from api_schemas.jobs import Job, JobStatus
from client import Lookahead, LookaheadError, RetryPolicy
from demo.serving import Served, served
from tests.e2e import files

SECONDS = 180.0


@pytest.fixture
def short_lease(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "service", lease_seconds="2", sweep_seconds="0.5", threads="1") as running:
        yield running


def process(service: Served, module: str) -> int:
    """The id of the launcher's child that runs `module`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_child(entry, service.process.pid, module):
            return int(entry.name)
    raise LookupError(module)


def is_child(entry: Path, parent: int, module: str) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
        state = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    follows = any(pair == (b"-m", module.encode()) for pair in pairwise(words))
    return follows and int(state[1]) == parent


def await_running(client: Lookahead, job_id: str) -> None:
    deadline = time.monotonic() + SECONDS
    while client.job(job_id).status is JobStatus.QUEUED:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def await_end(client: Lookahead, job_id: str) -> Job:
    """Ask until the job has ended, whatever becomes of the server in between."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            ended = client.wait(job_id, timeout=SECONDS)
        except LookaheadError:
            time.sleep(0.5)
        else:
            return ended
    raise AssertionError("the job did not end")


def successes(client: Lookahead, job_id: str) -> int:
    statuses = [e.data["status"] for e in client.events(job_id) if e.type is EventType.STATUS]
    return statuses.count("succeeded")


@pytest.mark.parametrize(("module", "attempts"), [("worker", 2), ("service", 1)])
def test_killed_in_the_middle_of_a_job(
    short_lease: Served, tmp_path: Path, module: str, attempts: int
) -> None:
    with Lookahead(short_lease.url, policy=RetryPolicy(retries=8, most=2.0)) as client:
        running = client.prune(files.onnx_file(tmp_path), preset="lookahead", sparsity=0.8)
        waiting = client.prune(files.onnx_file(tmp_path, seed=1), preset="magnitude", sparsity=0.8)
        await_running(client, running.id)
        victim = process(short_lease, module)
        os.kill(victim, signal.SIGKILL)
        first, second = await_end(client, running.id), await_end(client, waiting.id)
        assert first.status is second.status is JobStatus.SUCCEEDED, (first.error, second.error)
        assert (first.attempts, second.attempts) == (attempts, 1)
        assert successes(client, running.id) == successes(client, waiting.id) == 1
        assert client.download(running.id, tmp_path / "back").stat().st_size > 0
        assert process(short_lease, module) != victim


def test_nothing_is_left_running_when_the_launcher_is_killed(tmp_path: Path) -> None:
    with served(tmp_path / "service") as running:
        children = [process(running, module) for module in ("service", "worker")]
        running.process.kill()
        running.process.wait()
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{child}").exists() and not is_dead(child) for child in children):
            assert time.monotonic() < deadline, "a child outlives its launcher"
            time.sleep(0.1)


def is_dead(pid: int) -> bool:
    """Gone, or a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True

"""Real Redis, real PostgreSQL, a real Celery worker."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import onnx.numpy_helper
import pytest
import redis

from api_schemas.events import EventType
from api_schemas.jobs import JobStatus
from api_schemas.report import Report
from store.records import JobKind, JobRecord
from tests.faults.worker_process import children_of, eventually, settings_of, started, worker_process
from tests.servers import Server, postgres_database, postgres_server, redis_server
from tests.worker.workplace import Workplace, open_workplace, small_onnx
from worker.app import bell, create_app

pytestmark = [pytest.mark.servers]

#: Long enough that nothing but the bell can have started a job.
NO_POLLING = {"LOOKAHEAD_SWEEP_SECONDS": "600"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def broker() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, postgres: Server) -> Iterator[Workplace]:
    url = postgres_database(postgres, tmp_path.name.lower()).replace("postgresql:", "postgresql+psycopg:")
    with open_workplace(tmp_path, database_url=url, lease_seconds=2, sweep_seconds=0.3) as opened:
        yield opened


def publications(place: Workplace, job: JobRecord) -> int:
    data = [event.data for event in place.events(job) if event.type is EventType.STATUS]
    return [entry["status"] for entry in data].count("succeeded")


def in_time(action: Callable[[], None], seconds: float = 30) -> bool:
    """Whether the action comes back at all."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def test_a_bell_starts_the_job(place: Workplace, broker: Server) -> None:
    ring = bell(create_app(broker.url))
    with worker_process(place, "--broker-url", broker.url, name="a", **NO_POLLING) as worker:
        worker.wait_logged("started")
        job = place.submit("ok")
        ring(job.id)
        ended = place.wait_finished(job)
        for _ in range(3):
            ring(job.id)
        ring("job_that_never_was")
        other = place.submit("ok")
        ring(other.id)
        assert place.wait_finished(other).status is JobStatus.SUCCEEDED
        worker.signal(signal.SIGTERM)
        assert worker.wait_exit() == 0
    assert ended.status is JobStatus.SUCCEEDED and ended.attempts == 1
    assert publications(place, job) == 1 and publications(place, other) == 1
    assert place.job(job) == ended


def test_a_model_is_pruned_end_to_end(place: Workplace, broker: Server) -> None:
    """The command that production runs, with the engine that production has."""
    command = [sys.executable, "-m", "worker", "--broker-url", broker.url]
    with started(
        command, settings_of(place, "a", {**NO_POLLING, "LOOKAHEAD_MEMORY_BYTES": str(4 * 1024**3)})
    ) as worker:
        worker.wait_logged("started")
        model = place.add_model("small.onnx", small_onnx())
        jobs = [place.submit_for(model, kind) for kind in (JobKind.INSPECT, JobKind.PRUNE)]
        for job in jobs:
            bell(create_app(broker.url))(job.id)
        inspected, pruned = (place.wait_finished(job) for job in jobs)
        (announced,) = place.store.workers.alive()
    assert inspected.status is JobStatus.SUCCEEDED and pruned.status is JobStatus.SUCCEEDED, pruned.error
    inspection = place.store.models.get(model.id).inspection
    assert inspection is not None and [layer.shape for layer in inspection.layers] == [[2, 2]]
    assert pruned.model is not None and pruned.report is not None and pruned.summary is not None
    (weight,) = onnx.load_from_string(place.store.blobs.read(pruned.model.sha256)).graph.initializer
    assert sorted(onnx.numpy_helper.to_array(weight).ravel().tolist()) == [0.0, 0.0, 3.0, 4.0]
    report = Report.model_validate_json(place.store.blobs.read(pruned.report.sha256))
    assert report.environment.sandbox == "strict" == announced.sandbox


def test_jobs_survive_a_flushed_and_restarted_broker(place: Workplace) -> None:
    with redis_server() as broker:
        port = broker.port
        ring = bell(create_app(broker.url))
        with worker_process(place, "--broker-url", broker.url, name="a") as worker:
            worker.wait_logged("started")
            jobs = [place.submit("steady"), *(place.submit("ok") for _ in range(4))]
            for job in jobs:
                ring(job.id)
            place.wait_for(jobs[0], lambda present: present.status is JobStatus.RUNNING)
            redis.Redis(port=port).flushall()
            broker.process.kill()
            broker.process.wait()
            with redis_server(port):
                assert all(place.wait_finished(job).status is JobStatus.SUCCEEDED for job in jobs)
                after = place.submit("ok")
                ring(after.id)
                assert place.wait_finished(after).status is JobStatus.SUCCEEDED
    assert [publications(place, job) for job in [*jobs, after]] == [1] * 6
    assert [place.job(job).attempts for job in jobs] == [1] * 5


def test_a_broker_that_is_not_there_costs_seconds(place: Workplace) -> None:
    with redis_server() as gone:
        url = gone.url
    with worker_process(place, "--broker-url", url, name="a") as worker:
        assert place.wait_finished(place.submit("ok")).status is JobStatus.SUCCEEDED
        job = place.submit("endless")
        place.wait_for(job, lambda present: present.status is JobStatus.RUNNING)
        worker.signal(signal.SIGTERM)
        assert worker.wait_exit() == 0
    released = place.job(job)
    assert released.status is JobStatus.QUEUED and released.attempts == 0


def test_ringing_a_broker_that_does_not_answer_comes_back(broker: Server) -> None:
    ring = bell(create_app(broker.url))
    ring("job_one")
    broker.pause()
    assert in_time(lambda: ring("job_two"))
    assert in_time(lambda: bell(create_app(broker.url))("job_three"))
    broker.resume()


def test_a_celery_worker_killed_in_mid_job_is_replaced(place: Workplace, broker: Server) -> None:
    ring = bell(create_app(broker.url))
    job = place.submit("steady")
    ring(job.id)
    with worker_process(place, "--broker-url", broker.url, name="a") as first:
        place.wait_for(job, lambda present: present.progress.done > 2)
        first.signal(signal.SIGKILL)
        with worker_process(place, "--broker-url", broker.url, name="b"):
            ended = place.wait_finished(job)
    assert ended.status is JobStatus.SUCCEEDED and ended.attempts == 2
    assert publications(place, job) == 1


def test_sigterm_to_a_celery_worker_gives_the_job_back(place: Workplace, broker: Server) -> None:
    job = place.submit("endless")
    with worker_process(place, "--broker-url", broker.url, name="a", **NO_POLLING) as worker:
        worker.wait_logged("started")
        bell(create_app(broker.url))(job.id)
        place.wait_for(job, lambda present: present.progress.done == 1)
        worker.signal(signal.SIGTERM)
        assert worker.wait_exit() == 0
    released = place.job(job)
    assert released.status is JobStatus.QUEUED and released.attempts == 0
    assert not children_of(place)


def test_the_child_is_gone_before_the_lease_when_the_database_does_not_answer(tmp_path: Path) -> None:
    """The database is paused too long to end the lease: what is seen is the supervisor's own clock."""
    with postgres_server() as database:
        url = database.url.replace("postgresql:", "postgresql+psycopg:")
        with open_workplace(tmp_path, database_url=url, lease_seconds=3, sweep_seconds=0.3) as place:
            job = place.submit("endless")
            with worker_process(place, name="a") as worker:
                place.wait_for(job, lambda present: present.progress.done == 1)
                _pause_all(database)
                worker.wait_logged("child ended")
                stopped = [line for line in worker.log() if line.get("event") == "child ended"]
                assert stopped[0]["stopped"] == "lease"
                eventually(lambda: worker.process.poll() is None)
                _resume_all(database)
                place.wait_for(job, lambda present: present.attempts == 2)


def _pause_all(server: Server) -> None:
    """PostgreSQL answers from a process per connection: all of them, not only the first."""
    for pid in _family(server.process.pid):
        os.kill(pid, signal.SIGSTOP)


def _resume_all(server: Server) -> None:
    for pid in _family(server.process.pid):
        os.kill(pid, signal.SIGCONT)


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        path = Path(f"/proc/{parent}/task/{parent}/children")
        found += [int(child) for child in path.read_text().split()] if path.exists() else []
    return found

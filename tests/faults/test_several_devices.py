"""Fine-tuning by two confined processes behind a real broker: one of them is killed, the job is cancelled."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import ServiceSettings
from tests.engine.learning.digits import as_onnx, digits, trained
from tests.faults.test_fine_tuning import RECIPE, SECONDS, STEPS, ended, events, submit
from tests.faults.worker_process import WorkerProcess, children_of, eventually, settings_of, started
from tests.servers import Server, redis_server
from tests.worker.workplace import Workplace, open_workplace

pytestmark = [pytest.mark.slow, pytest.mark.servers]
KILLED = ("leader", "peer", "worker")


@pytest.fixture(scope="module")
def broker() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    with open_workplace(tmp_path / "data", lease_seconds=3, sweep_seconds=0.3) as opened:
        yield opened


@pytest.fixture
def client(place: Workplace, broker: Server) -> Iterator[TestClient]:
    settings = ServiceSettings(
        data_dir=place.settings.data_dir, broker_url=broker.url, reserve_bytes=0, sweep_seconds=0.3
    )
    with TestClient(create_app(settings)) as made:
        yield made


@pytest.fixture
def body(client: TestClient, tmp_path: Path) -> Mapping[str, Any]:
    images, labels = digits()
    np.savez(tmp_path / "digits.npz", input=images, targets=labels)
    model = as_onnx(trained(), tmp_path / "digits.onnx").read_bytes()
    data = (tmp_path / "digits.npz").read_bytes()
    return {
        "model_id": client.post("/v1/models?filename=digits.onnx", content=model).json()["id"],
        "dataset_id": client.post("/v1/datasets", content=data).json()["id"],
        "recipe": RECIPE,
    }


@contextmanager
def worker_of_two(place: Workplace, broker: Server, name: str) -> Iterator[WorkerProcess]:
    """A worker as it is run in production, that trains each job in two processes."""
    more = {
        "LOOKAHEAD_DEVICES": "2",
        "LOOKAHEAD_BROKER_URL": broker.url,
        "LOOKAHEAD_CHECKPOINT_SECONDS": "0.5",
        "LOOKAHEAD_MEMORY_BYTES": str(8 << 30),
        "OMP_NUM_THREADS": "1",
    }
    with started([sys.executable, "-m", "worker"], settings_of(place, name, more)) as worker:
        worker.wait_logged("started")
        yield worker


def training_in(place: Workplace, worker: WorkerProcess) -> dict[int, int]:
    """The processes of a worker that have mapped the same memory, by rank: the first is the oldest."""
    groups: dict[int, list[int]] = {}
    for pid in children_of(place):
        if int(_stat(pid)[1]) == worker.process.pid:
            groups.setdefault(_exchange(pid), []).append(pid)
    (together,) = (pids for pids in groups.values() if len(pids) > 1)
    return dict(enumerate(sorted(together, key=lambda pid: int(_stat(pid)[19]))))


def _exchange(pid: int) -> int:
    """The inode of what a process talks through."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return next((int(line.split()[4]) for line in lines if "/memfd:exchange" in line), -pid)


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def in_mid_training(client: TestClient, job_id: str) -> None:
    """Wait until it has trained for a while, and a checkpoint of that is kept."""
    deadline = time.monotonic() + SECONDS
    while True:
        job = client.get(f"/v1/jobs/{job_id}").json()
        assert job["finished_at"] is None and time.monotonic() < deadline, job
        far = job["stage"] == "recovering" and job["progress"]["done"] > STEPS // 8
        if far and len(events(client, job_id, "checkpoint")) > 1:
            return
        time.sleep(0.05)


def statuses(client: TestClient, job_id: str) -> list[str]:
    return [data["status"] for data in events(client, job_id, "status")]


def test_whichever_process_is_killed_the_job_ends_as_an_unbroken_one(
    place: Workplace, client: TestClient, body: Mapping[str, Any], broker: Server
) -> None:
    broken = {killed: submit_and_kill(place, client, body, broker, killed) for killed in KILLED}
    with worker_of_two(place, broker, "other"):
        jobs = {killed: ended(client, job_id) for killed, job_id in broken.items()}
        unbroken = ended(client, submit(client, body))
    expected = client.get(unbroken["links"]["model"]).content
    assert unbroken["attempts"] == 1
    for killed, job in jobs.items():
        assert job["attempts"] == 2 and statuses(client, job["id"]).count("succeeded") == 1, killed
        actions = [data["action"] for data in events(client, job["id"], "checkpoint")]
        assert actions.count("resumed") == 1, killed
        assert client.get(job["links"]["model"]).content == expected, f"other bytes than without: {killed}"
        report = client.get(job["links"]["report"]).json()
        assert report["environment"]["processes"] == 2 and report["environment"]["sandbox"] == "strict"
    page = client.get(unbroken["links"]["report"], headers={"Accept": "text/html"}).text
    assert re.search(r"Trained on</dt><dd>\D*2\D.*devices, a process on each", page)


def submit_and_kill(
    place: Workplace, client: TestClient, body: Mapping[str, Any], broker: Server, killed: str
) -> str:
    """A job of which one process was killed in mid-training; its worker, if it lives, tries it again."""
    job_id = submit(client, body)
    with worker_of_two(place, broker, f"loses-{killed}") as worker:
        in_mid_training(client, job_id)
        training = training_in(place, worker)
        pids = {"leader": training[0], "peer": training[1], "worker": worker.process.pid}
        os.kill(pids[killed], signal.SIGKILL)
        eventually(lambda: not any(alive(pid) for pid in training.values()), 20)
        if killed != "worker":
            ended(client, job_id)
    return job_id


def test_a_cancel_in_mid_training_ends_both(
    place: Workplace, client: TestClient, body: Mapping[str, Any], broker: Server
) -> None:
    long = {**RECIPE, "recovery": {**RECIPE["recovery"], "steps": 1_000_000}}
    job_id = submit(client, {**body, "recipe": long})
    with worker_of_two(place, broker, "a") as worker:
        deadline = time.monotonic() + SECONDS
        while not events(client, job_id, "metric"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        training = training_in(place, worker)
        client.post(f"/v1/jobs/{job_id}/cancel")
        while (job := client.get(f"/v1/jobs/{job_id}?wait=5").json())["finished_at"] is None:
            assert time.monotonic() < deadline
        assert job["status"] == "cancelled"
        assert len(training) == 2 and not any(alive(pid) for pid in training.values())


def alive(pid: int) -> bool:
    try:
        return _stat(pid)[0] != "Z"
    except OSError:
        return False

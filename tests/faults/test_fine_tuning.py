"""Fine-tuning by the real engine, its worker killed with -9 in the middle: another goes on and ends alike."""

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
from tests.faults.worker_process import WorkerProcess, settings_of, started
from tests.worker.workplace import Workplace, open_workplace

pytestmark = pytest.mark.slow
SECONDS = 300.0
STEPS = 400
RECIPE = {
    "criterion": {"name": "magnitude"},
    "granularity": {"name": "element"},
    "recovery": {"name": "fine_tune", "steps": STEPS, "batch": 32, "patience": None},
    "target": {"sparsity": 0.9},
    "seed": 3,
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    with open_workplace(tmp_path / "data", lease_seconds=3, sweep_seconds=0.3) as opened:
        yield opened


@pytest.fixture
def client(place: Workplace) -> Iterator[TestClient]:
    settings = ServiceSettings(data_dir=place.settings.data_dir, reserve_bytes=0, sweep_seconds=0.3)
    with TestClient(create_app(settings)) as made:
        yield made


@contextmanager
def engine_worker(place: Workplace, name: str) -> Iterator[WorkerProcess]:
    """A worker as it is run in production, which saves often."""
    more = {
        "LOOKAHEAD_CHECKPOINT_SECONDS": "0.5",
        "LOOKAHEAD_MEMORY_BYTES": str(4 << 30),
        "OMP_NUM_THREADS": "1",
    }
    with started([sys.executable, "-m", "worker"], settings_of(place, name, more)) as worker:
        yield worker


@pytest.fixture
def request_body(client: TestClient, tmp_path: Path) -> Mapping[str, Any]:
    """A network that knows the digits, and the digits with their labels, uploaded."""
    images, labels = digits()
    np.savez(tmp_path / "digits.npz", input=images, targets=labels)
    model = as_onnx(trained(), tmp_path / "digits.onnx").read_bytes()
    return {
        "model_id": client.post("/v1/models?filename=digits.onnx", content=model).json()["id"],
        "dataset_id": client.post("/v1/datasets", content=(tmp_path / "digits.npz").read_bytes()).json()[
            "id"
        ],
        "recipe": RECIPE,
    }


def submit(client: TestClient, body: Mapping[str, Any]) -> str:
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def ended(client: TestClient, job_id: str) -> Mapping[str, Any]:
    deadline = time.monotonic() + SECONDS
    while (job := client.get(f"/v1/jobs/{job_id}?wait=5").json())["finished_at"] is None:
        assert time.monotonic() < deadline, job
    assert job["status"] == "succeeded", job["error"]
    found: Mapping[str, Any] = job
    return found


def events(client: TestClient, job_id: str, type_: str) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/jobs/{job_id}/events", headers={"Accept": "application/json"})
    return [event["data"] for event in answer.json()["items"] if event["type"] == type_]


def kill_in_mid_training(client: TestClient, worker: WorkerProcess, job_id: str, after: int = 0) -> None:
    """Once so many rounds are over, it has trained for a while, and a checkpoint of that is kept."""
    deadline = time.monotonic() + SECONDS
    while True:
        job = client.get(f"/v1/jobs/{job_id}").json()
        assert job["finished_at"] is None and time.monotonic() < deadline, job
        far = job["stage"] == "recovering" and job["progress"]["done"] > STEPS // 8
        stages = [data["stage"] for data in events(client, job_id, "stage")]
        if far and stages.count("recovering") > after and len(events(client, job_id, "checkpoint")) > 1:
            break
        time.sleep(0.05)
    worker.signal(signal.SIGKILL)
    worker.wait_exit()


def test_a_killed_fine_tuning_goes_on_in_another_worker_and_ends_as_an_unbroken_one(
    place: Workplace, client: TestClient, request_body: Mapping[str, Any]
) -> None:
    broken = submit(client, request_body)
    with engine_worker(place, "a") as first:
        kill_in_mid_training(client, first, broken)
        with engine_worker(place, "b"):
            unbroken = submit(client, request_body)
            after_kill, undisturbed = ended(client, broken), ended(client, unbroken)
    assert (after_kill["attempts"], undisturbed["attempts"]) == (2, 1)
    actions = [data["action"] for data in events(client, broken, "checkpoint")]
    assert actions.count("resumed") == 1
    statuses = [data["status"] for data in events(client, broken, "status")]
    assert statuses.count("succeeded") == 1
    first_again = metric_steps_after_resuming(client, broken)[0]
    assert first_again > STEPS // 16, "training began again where it was, not at the start"
    models = [client.get(job["links"]["model"]).content for job in (after_kill, undisturbed)]
    assert models[0] == models[1], "the same bytes as without the kill"
    accuracies = [job["summary"]["accuracy_after"] for job in (after_kill, undisturbed)]
    assert accuracies[0] == accuracies[1] > 0.9
    assert place.store.checkpoints.jobs() == () or place.store.collect_garbage(0) is not None


def metric_steps_after_resuming(client: TestClient, job_id: str) -> list[int]:
    """The steps that the loss was read at by the attempt that went on."""
    answer = client.get(f"/v1/jobs/{job_id}/events", headers={"Accept": "application/json"})
    items = answer.json()["items"]
    at = next(n for n, item in enumerate(items) if item["data"].get("action") == "resumed")
    return [item["data"]["step"] for item in items[at:] if item["data"].get("name") == "loss"]


ROUNDS = {"schedule": {"name": "iterative", "rounds": 3}}
CHANNELS = {"granularity": {"name": "channel"}, "target": {"sparsity": 0.5}}


@pytest.mark.parametrize(("change", "after"), [(ROUNDS, 1), (CHANNELS, 0)], ids=["rounds", "channels"])
def test_killed_in_other_recipes(
    place: Workplace,
    client: TestClient,
    request_body: Mapping[str, Any],
    change: Mapping[str, Any],
    after: int,
) -> None:
    body = {**request_body, "recipe": {**RECIPE, **change}}
    broken = submit(client, body)
    with engine_worker(place, "a") as first:
        kill_in_mid_training(client, first, broken, after)
        with engine_worker(place, "b"):
            unbroken = submit(client, body)
            links = [ended(client, job_id)["links"]["model"] for job_id in (broken, unbroken)]
    again = [data["stage"] for data in events(client, broken, "stage")].count("recovering")
    whole = [data["stage"] for data in events(client, unbroken, "stage")].count("recovering")
    assert again == whole + 1, "no round that was over was gone through again"
    assert client.get(links[0]).content == client.get(links[1]).content


def test_a_fine_tuning_is_cancelled_in_the_middle_of_its_steps(
    place: Workplace, client: TestClient, request_body: Mapping[str, Any]
) -> None:
    long = {**RECIPE, "recovery": {**RECIPE["recovery"], "steps": 1_000_000}}
    job_id = submit(client, {**request_body, "recipe": long})
    with engine_worker(place, "a"):
        deadline = time.monotonic() + SECONDS
        while not events(client, job_id, "metric"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.post(f"/v1/jobs/{job_id}/cancel")
        while (job := client.get(f"/v1/jobs/{job_id}?wait=5").json())["finished_at"] is None:
            assert time.monotonic() < deadline
    assert job["status"] == "cancelled"
    assert place.store.jobs.get(job_id).checkpoint is None

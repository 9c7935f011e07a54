"""The sweep beside the requests: lost workers, unheard bells, litter."""

import os
import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from api_schemas.jobs import JobStatus
from service.background import Sweeper
from store.records import JobKind
from tests.service.conftest import MakeClient, RecordingDoorbell, context_of
from tests.service.files import onnx_bytes
from tests.service.health.test_health import samples
from tests.service.jobs.requests import body
from tests.service.workers import Hand


@pytest.fixture
def quick(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Leases and sweeps of tenths of a second, and no loop: the tests sweep themselves."""
    monkeypatch.setattr("service.background._every", _never)
    return make_client(lease_seconds=0.2, sweep_seconds=0.2, max_attempts=2)


async def _never(*_: Any) -> None:
    pass


def queued(client: TestClient, tmp_path: Any) -> tuple[str, Hand]:
    hand = Hand(context_of(client).store, tmp_path)
    model_id = client.post("/v1/models", content=onnx_bytes()).json()["id"]
    hand.inspect()
    return client.post("/v1/jobs", json=body(model_id)).json()["id"], hand


def test_a_lost_worker_costs_an_attempt_and_rings_again(
    quick: TestClient, tmp_path: Any, doorbell: RecordingDoorbell
) -> None:
    job_id, hand = queued(quick, tmp_path)
    sweeper = Sweeper(context_of(quick))
    for status, outcome in (("queued", "requeued"), ("failed", "failed")):
        hand.claim(JobKind.PRUNE)
        time.sleep(0.3)
        doorbell.rung.clear()
        sweeper.sweep()
        assert quick.get(f"/v1/jobs/{job_id}").json()["status"] == status
        assert (job_id in doorbell.rung) is (status == "queued")
        assert samples(quick)["lookahead_jobs_reclaimed_total", (("outcome", outcome),)] == 1
    assert quick.get(f"/v1/jobs/{job_id}").json()["error"]["code"] == "worker_lost"


def test_an_unheard_bell_is_rung_again(quick: TestClient, tmp_path: Any, doorbell: RecordingDoorbell) -> None:
    job_id, _ = queued(quick, tmp_path)
    doorbell.rung.clear()
    time.sleep(0.3)
    Sweeper(context_of(quick)).sweep()
    assert doorbell.rung == [job_id]


def test_litter_of_aborted_uploads_goes(quick: TestClient) -> None:
    context = context_of(quick)
    old = context.store.blobs.staging_dir() / "upload-old"
    old.mkdir()
    (old / "part-1").write_bytes(b"x")
    new = context.store.blobs.staging_dir() / "upload-new"
    new.mkdir()
    past = time.time() - 2 * context.settings.staging_hours * 3600
    os.utime(old, (past, past))
    Sweeper(context).clean()
    assert not old.exists()
    assert new.exists()


def test_the_loops_run_and_survive_failures(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def broken(self: Sweeper) -> None:
        calls.append(1)
        raise RuntimeError("database away")

    monkeypatch.setattr(Sweeper, "sweep", broken)
    client = make_client(sweep_seconds=0.01)
    deadline = time.monotonic() + 20
    while len(calls) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(calls) >= 3
    assert client.get("/livez").status_code == 200
    assert samples(client)["lookahead_sweep_failures_total", ()] >= 2


def test_a_job_survives_the_restart_of_the_api(make_client: MakeClient, tmp_path: Any) -> None:
    first = make_client()
    job_id, _ = queued(first, tmp_path)
    second = make_client()
    assert second.get(f"/v1/jobs/{job_id}").json()["status"] == JobStatus.QUEUED

"""The API on PostgreSQL and Redis, with the broker frozen and flushed under it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import ServiceSettings
from tests.servers import Server, postgres_server, redis_server
from tests.service.catalogue import small_catalogue
from tests.service.files import digits, onnx_bytes
from tests.service.jobs.requests import body
from tests.service.workers import PRUNED, Hand

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def broker() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@pytest.fixture
def client(tmp_path: Path, postgres: Server, broker: Server) -> Iterator[TestClient]:
    settings = ServiceSettings(
        data_dir=tmp_path / "data",
        database_url=postgres.url,
        broker_url=broker.url,
        reserve_bytes=0,
        poll_seconds=0.02,
    )
    with TestClient(create_app(settings, catalogue=small_catalogue), raise_server_exceptions=False) as made:
        yield made


def submit(client: TestClient, **headers: str) -> Any:
    model_id = client.post("/v1/models", content=onnx_bytes()).json()["id"]
    dataset_id = client.post("/v1/datasets", content=digits()).json()["id"]
    return client.post("/v1/jobs", json=body(model_id, dataset_id), headers=headers)


def test_the_whole_path(client: TestClient, tmp_path: Path) -> None:
    hand = Hand(client.app.state.context.store, tmp_path)  # type: ignore[attr-defined]
    job_id = submit(client).json()["id"]
    hand.inspect()
    hand.finish(hand.start())
    assert client.get(f"/v1/jobs/{job_id}?wait=5").json()["status"] == "succeeded"
    assert client.get(f"/v1/jobs/{job_id}/model").content == PRUNED
    assert client.get(f"/v1/jobs/{job_id}/events").text.count("\nid: ") == 4
    assert client.get("/v1/jobs?limit=1").json()["items"][0]["id"] == job_id
    assert job_id in client.get("/").text


def test_text_that_postgresql_cannot_keep_is_refused(client: TestClient) -> None:
    document = body("mdl_" + "0" * 26) | {"metadata": {"k": "\0"}}
    assert client.post("/v1/jobs", json=document).status_code == 422
    assert client.post("/v1/models?filename=a%00b.onnx", content=onnx_bytes()).json()["filename"] == "ab.onnx"
    for query in ("cursor=%00", "status=%00"):
        assert client.get(f"/v1/jobs?{query}").status_code == 422


def test_a_frozen_broker_neither_delays_nor_fails_a_request(client: TestClient, broker: Server) -> None:
    broker.pause()
    try:
        answer = submit(client, **{"Idempotency-Key": "frozen"})
        assert answer.status_code == 202
        found = client.get("/readyz")
        checks = {check["name"]: check["status"] for check in found.json()["checks"]}
        assert (found.status_code, checks["broker"]) == (200, "degraded")
    finally:
        broker.resume()
    assert client.get(answer.json()["links"]["self"]).json()["status"] == "queued"

"""Rings reach a real broker, and a broker that is away or frozen delays nobody."""

import json
import threading
import time

import pytest
import redis
from starlette.testclient import TestClient

from service.doorbell import QUEUE, TASK, CeleryDoorbell, SilentDoorbell, make_doorbell
from tests.servers import free_port, redis_server
from tests.service.conftest import MakeClient
from tests.service.files import onnx_bytes


def messages(url: str) -> list[tuple[str, list[str]]]:
    """(task, arguments) of what waits in the queue, oldest first, as the wire has it."""
    with redis.Redis.from_url(url) as connection:
        raw = connection.lrange(QUEUE, 0, -1)
    found = [json.loads(item) for item in reversed(raw)]
    import base64

    return [(item["headers"]["task"], json.loads(base64.b64decode(item["body"]))[0]) for item in found]


def wait_for(url: str, count: int) -> list[tuple[str, list[str]]]:
    deadline = time.monotonic() + 20
    while len(found := messages(url)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.mark.servers
def test_rings_arrive_as_json_with_the_job_id_alone() -> None:
    with redis_server() as server:
        bell = CeleryDoorbell(server.url)
        for number in range(5):
            bell.ring(f"job_{number}")
        assert wait_for(server.url, 5) == [(TASK, [f"job_{number}"]) for number in range(5)]
        assert bell.trouble() is None
        bell.close()


@pytest.mark.servers
def test_a_frozen_broker_delays_no_request(make_client: MakeClient) -> None:
    with redis_server() as server:
        bell = CeleryDoorbell(server.url)
        bell.ring("job_first")
        wait_for(server.url, 1)
        server.pause()
        try:
            slowest = 0.0
            for number in range(20):
                started = time.monotonic()
                bell.ring(f"job_{number}")
                slowest = max(slowest, time.monotonic() - started)
            assert bell.trouble() is not None
        finally:
            server.resume()
        assert slowest < 2  # the promise of J11, two hundred times what it takes
        bell.close()


def test_a_broker_that_is_away_is_told_and_costs_only_the_ring() -> None:
    bell = CeleryDoorbell(f"redis://127.0.0.1:{free_port()}/0")
    bell.ring("job_lost")
    assert "does not answer" in (bell.trouble() or "")
    bell.close()
    assert threading.active_count() < 50


def test_embedded_mode_rings_nobody() -> None:
    bell = make_doorbell(None)
    assert isinstance(bell, SilentDoorbell)
    bell.ring("job_x")
    assert bell.trouble() is None
    bell.close()


def test_a_full_backlog_drops_rings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.doorbell._MOST_WAITING", 1)
    monkeypatch.setattr(CeleryDoorbell, "_publish_all", lambda self: None)
    bell = CeleryDoorbell("redis://127.0.0.1:1/0")
    bell.ring("a")
    bell.ring("b")
    assert "backlog is full" in caplog.text
    bell.close()


def test_readiness_degrades_without_the_broker(make_client: MakeClient) -> None:
    """The fixture's doorbell is well, so the real one is asked here."""
    port = free_port()
    client: TestClient = make_client(broker_url=f"redis://127.0.0.1:{port}/0")
    assert client.post("/v1/models", content=onnx_bytes()).status_code == 201
    assert client.get("/readyz").status_code == 200

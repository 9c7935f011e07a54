"""Liveness looks at nothing, readiness at everything, metrics count without naming anybody."""

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.context import Context
from service.health import checks
from store.errors import UnavailableError
from tests.service.conftest import MakeClient, context_of
from tests.service.files import onnx_bytes
from tests.service.jobs.requests import body
from tests.service.workers import PRUNED, Hand


def ready(client: TestClient) -> tuple[int, str, dict[str, str]]:
    answer = client.get("/readyz")
    found = answer.json()
    return answer.status_code, found["status"], {check["name"]: check["status"] for check in found["checks"]}


def announce(context: Context, *, holds: bool) -> None:
    context.store.workers.announce("w", version="1", sandbox="strict", device="cpu", detail={"holds": holds})


def test_alive(client: TestClient) -> None:
    answer = client.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_ready_with_a_confined_worker(client: TestClient, context: Context) -> None:
    announce(context, holds=True)
    status, health, found = ready(client)
    assert (status, health) == (200, "ok")
    assert found == dict.fromkeys(("database", "storage", "disk", "broker", "workers"), "ok")


def test_without_a_worker_the_service_is_degraded_and_serves(client: TestClient) -> None:
    status, health, found = ready(client)
    assert (status, health, found["workers"]) == (200, "degraded", "degraded")


def test_a_worker_whose_sandbox_does_not_hold_shows(client: TestClient, context: Context) -> None:
    announce(context, holds=False)
    assert ready(client)[2]["workers"] == "degraded"


def test_a_database_that_is_away_is_down(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise UnavailableError("gone")

    monkeypatch.setattr(context.store, "ping", away)
    status, health, found = ready(client)
    assert (status, health, found["database"]) == (503, "down", "down")
    assert client.get("/livez").status_code == 200


def test_a_storage_that_fails_is_down(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> bool:
        raise OSError("secret path")

    monkeypatch.setattr(context.store.blobs, "exists", broken)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "secret" not in answer.text


def test_a_check_that_hangs_does_not_hang_readiness(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    release = threading.Event()
    monkeypatch.setattr(checks, "_SECONDS", 0.1)
    monkeypatch.setattr(context.store.blobs, "exists", lambda _: release.wait(20))
    assert ready(client)[2]["storage"] == "down"
    release.set()


def test_a_full_disk_is_down(make_client: MakeClient) -> None:
    assert ready(make_client(reserve_bytes=2**60))[2]["disk"] == "down"


class SickDoorbell:
    def ring(self, job_id: str) -> None:
        pass

    def trouble(self) -> str | None:
        return "the broker does not answer"

    def close(self) -> None:
        pass


def test_a_broker_that_is_away_only_degrades(make_client: MakeClient) -> None:
    client = make_client(broker_url="redis://127.0.0.1:1/0")
    context = context_of(client)
    object.__setattr__(context, "doorbell", SickDoorbell())
    announce(context, holds=True)
    status, health, found = ready(client)
    assert (status, health, found["broker"]) == (200, "degraded", "degraded")


def samples(client: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families: Any = text_string_to_metric_families(answer.text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_count_jobs_requests_and_bytes(client: TestClient, hand: Hand, model_id: str) -> None:
    hand.inspect()
    first = client.post("/v1/jobs", json=body(model_id)).json()["id"]
    hand.finish(hand.start())
    client.post("/v1/jobs", json=body(model_id))
    client.get(f"/v1/jobs/{first}/model")
    client.get("/v1/nowhere/secret-name")
    found = samples(client)
    assert found["lookahead_jobs", (("status", "queued"),)] == 1
    assert found["lookahead_jobs", (("status", "succeeded"),)] == 2
    assert found["lookahead_queue_age_seconds", ()] >= 0
    assert found["lookahead_upload_bytes_total", ()] == len(onnx_bytes())
    assert found["lookahead_response_bytes_total", ()] > len(PRUNED)
    route = (("method", "POST"), ("route", "/v1/jobs"), ("status", "202"))
    assert found["lookahead_http_requests_total", route] == 2
    lost = (("method", "GET"), ("route", "(none)"), ("status", "404"))
    assert found["lookahead_http_requests_total", lost] == 1


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_load_balancers_may_ask_for_headers_alone(client: TestClient, path: str) -> None:
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (client.get(path).status_code, b"")


def test_workers_and_room_are_counted(client: TestClient, context: Context) -> None:
    assert samples(client)["lookahead_workers", ()] == 0
    announce(context, holds=True)
    found = samples(client)
    assert found["lookahead_workers", ()] == 1
    assert found["lookahead_staging_free_bytes", ()] > 0


def test_without_a_database_the_other_metrics_still_come(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert samples(client)["lookahead_database_up", ()] == 1

    def away() -> None:
        raise UnavailableError("away")

    monkeypatch.setattr(context.store.jobs, "counts", away)
    found = samples(client)
    assert found["lookahead_database_up", ()] == 0
    assert found["lookahead_upload_bytes_total", ()] == 0
    assert not any(name == "lookahead_jobs" for name, _ in found)


def test_no_label_names_a_job_or_a_path(client: TestClient, hand: Hand, model_id: str) -> None:
    client.get(f"/v1/models/{model_id}")
    client.get("/v1/jobs/job_" + "0" * 26)
    text = client.get("/metrics").text
    assert not re.search(r"(mdl|job|dat)_[0-9a-z]{26}", text)
    assert 'route="/v1/jobs/{job_id}"' in text

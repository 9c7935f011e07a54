"""Delivery to a real receiver on loopback: signed, retried with the same id, given up in the end."""

import http.server
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from standardwebhooks import Webhook
from starlette.testclient import TestClient

from service.context import Context
from service.webhooks.delivery import SCHEDULE, Deliverer
from service.webhooks.signing import Signer, load_secret
from store.records import WebhookDelivery
from tests.service.conftest import MakeClient, context_of
from tests.service.files import onnx_bytes
from tests.service.jobs.requests import body
from tests.service.workers import Hand

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"


@dataclass
class Receiver:
    """What came, and the status to answer with."""

    url: str = ""
    status: int = 200
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            found.came.append(({name.lower(): value for name, value in self.headers.items()}, data))
            self.send_response(found.status)
            self.send_header("Location", found.url + "elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def open_client(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Delivery by hand only: the loop beside the requests would be in the way."""
    monkeypatch.setattr("service.background._WEBHOOK_SECONDS", 3600)
    return make_client(webhook_allow_private=True, webhook_seconds=5)


def finish_job(client: TestClient, folder: Path, url: str) -> str:
    hand = Hand(context_of(client).store, folder)
    model_id = client.post("/v1/models", content=onnx_bytes()).json()["id"]
    hand.inspect()
    document = body(model_id) | {"webhook": {"url": url}}
    job_id: str = client.post("/v1/jobs", json=document).json()["id"]
    hand.finish(hand.start())
    return job_id


def deliver(context: Context) -> int:
    return anyio.run(Deliverer(context).deliver_due)


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Callable[[Context], list[tuple[str, float | None]]]:
    """Notes what the outbox is told."""
    said: list[tuple[str, float | None]] = []

    def watch(context: Context) -> list[tuple[str, float | None]]:
        jobs = context.store.jobs
        done, failed = jobs.webhook_done, jobs.webhook_failed
        monkeypatch.setattr(jobs, "webhook_done", lambda id_: (said.append(("done", None)), done(id_)))
        monkeypatch.setattr(
            jobs, "webhook_failed", lambda id_, pause: (said.append(("failed", pause)), failed(id_, pause))
        )
        return said

    return watch


def test_a_finished_job_is_told_once_and_signed(
    open_client: TestClient, receiver: Receiver, tmp_path: Path
) -> None:
    job_id = finish_job(open_client, tmp_path, receiver.url)
    assert deliver(context_of(open_client)) == 1
    assert deliver(context_of(open_client)) == 0
    ((headers, data),) = receiver.came
    payload = Webhook(SECRET).verify(data, headers)
    assert payload["type"] == "job.succeeded"
    assert (payload["data"]["id"], payload["data"]["summary"]["sparsity"]) == (job_id, 0.8)
    assert headers["content-type"] == "application/json"
    assert headers["host"] == receiver.url.split("/")[2]


@pytest.mark.parametrize("status", [500, 404, 302, 429])
def test_anything_but_success_is_tried_again_later(
    open_client: TestClient, receiver: Receiver, tmp_path: Path, status: int,
    outcome: Callable[[Context], list[tuple[str, float | None]]],
) -> None:  # fmt: skip
    finish_job(open_client, tmp_path, receiver.url)
    said = outcome(context_of(open_client))
    receiver.status = status
    deliver(context_of(open_client))
    ((what, pause),) = said
    assert what == "failed"
    assert pause is not None
    assert SCHEDULE[0] <= pause <= 1.2 * SCHEDULE[0]
    assert len(receiver.came) == 1  # a redirect is not followed
    assert deliver(context_of(open_client)) == 0


def test_a_retry_carries_the_same_id(open_client: TestClient, receiver: Receiver, tmp_path: Path) -> None:
    finish_job(open_client, tmp_path, receiver.url)
    context = context_of(open_client)
    receiver.status = 500
    deliver(context)
    first = receiver.came[0][0]["webhook-id"]
    context.store.jobs.webhook_failed(first, 0)
    receiver.status = 200
    assert deliver(context) == 1
    assert [headers["webhook-id"] for headers, _ in receiver.came] == [first, first]


def test_410_ends_it(
    open_client: TestClient, receiver: Receiver, tmp_path: Path,
    outcome: Callable[[Context], list[tuple[str, float | None]]],
) -> None:  # fmt: skip
    finish_job(open_client, tmp_path, receiver.url)
    said = outcome(context_of(open_client))
    receiver.status = 410
    deliver(context_of(open_client))
    assert said == [("done", None)]


def test_a_receiver_that_is_away_is_tried_again(
    open_client: TestClient, tmp_path: Path, outcome: Callable[[Context], list[tuple[str, float | None]]]
) -> None:
    finish_job(open_client, tmp_path, "http://127.0.0.1:1/")
    said = outcome(context_of(open_client))
    deliver(context_of(open_client))
    assert said[0][0] == "failed"


def test_private_addresses_are_given_up_where_they_are_not_allowed(
    make_client: MakeClient, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    outcome: Callable[[Context], list[tuple[str, float | None]]],
) -> None:  # fmt: skip
    """The address is checked again at delivery: a name may have changed its mind since the job was posted."""
    monkeypatch.setattr("service.background._WEBHOOK_SECONDS", 3600)
    monkeypatch.setattr("service.jobs.service.check_url", lambda *_, **__: None)
    client = make_client()
    finish_job(client, tmp_path, receiver.url)
    said = outcome(context_of(client))
    deliver(context_of(client))
    assert said == [("done", None)]
    assert receiver.came == []


def test_the_last_try_gives_up(
    open_client: TestClient, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    outcome: Callable[[Context], list[tuple[str, float | None]]],
) -> None:  # fmt: skip
    finish_job(open_client, tmp_path, receiver.url)
    context = context_of(open_client)
    real = context.store.jobs.due_webhooks

    def late(limit: int) -> tuple[WebhookDelivery, ...]:
        from dataclasses import replace

        return tuple(replace(found, attempts=len(SCHEDULE) + 1) for found in real(limit))

    monkeypatch.setattr(context.store.jobs, "due_webhooks", late)
    said = outcome(context)
    receiver.status = 500
    deliver(context)
    assert said == [("done", None)]


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    made = load_secret(None, tmp_path)
    assert load_secret(None, tmp_path) == made
    assert (tmp_path / "webhook_secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["webhook_secret"]
    assert load_secret("whsec_own", tmp_path) == "whsec_own"
    text = '{"ä": 1}'
    assert Webhook(made).verify(text, Signer(made).headers("msg_1", text)) == {"ä": 1}

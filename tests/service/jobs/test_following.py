"""Waiting for a job and its events: nothing lost, nothing doubled, an end."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from api_schemas.events import ChildEvent, Event, EventList, EventType
from store.records import JobKind
from tests.service.jobs.requests import body
from tests.service.workers import Hand


@pytest.fixture
def job_id(client: TestClient, hand: Hand, model_id: str) -> str:
    hand.inspect()
    found: str = client.post("/v1/jobs", json=body(model_id)).json()["id"]
    return found


def parse(text: str) -> Iterator[dict[str, str]]:
    """Server-Sent Events as the standard's own algorithm reads them: fields per block, comments dropped."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in fields:
            yield fields


def stream(client: TestClient, job_id: str, after: int | None = None) -> list[dict[str, str]]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after is not None else {})
    answer = client.get(f"/v1/jobs/{job_id}/events", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    return list(parse(answer.text))


def finish_later(hand: Hand, events: int = 0) -> threading.Thread:
    def work() -> None:
        claim = hand.claim(JobKind.PRUNE)
        for number in range(events):
            time.sleep(0.01)
            progress = ChildEvent(type=EventType.PROGRESS, data={"done": number})
            hand.store.jobs.record(claim, [progress])
        time.sleep(0.1)
        hand.finish(claim)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_stream_of_a_running_job_ends_with_the_job(client: TestClient, hand: Hand, job_id: str) -> None:
    thread = finish_later(hand, events=20)
    events = stream(client, job_id)
    thread.join()
    assert [int(event["id"]) for event in events] == list(range(1, 24))
    assert events[-1]["event"] == "status"
    assert Event.model_validate_json(events[-1]["data"]).data == {"status": "succeeded"}


def test_quiet_streams_carry_comments(client: TestClient, hand: Hand, job_id: str) -> None:
    thread = finish_later(hand)
    text = client.get(f"/v1/jobs/{job_id}/events").text
    thread.join()
    assert ": ping" in text


@pytest.mark.parametrize("after", range(7))
def test_replay_continues_right_after_the_last_id(
    client: TestClient, hand: Hand, job_id: str, after: int
) -> None:
    hand.finish(hand.start())
    assert [int(event["id"]) for event in stream(client, job_id, after)] == list(range(after + 1, 5))


def test_the_list_is_the_stream(client: TestClient, hand: Hand, job_id: str) -> None:
    hand.finish(hand.start())
    answer = client.get(f"/v1/jobs/{job_id}/events", headers={"Accept": "application/json"})
    items = EventList.model_validate(answer.json()).items
    streamed = [Event.model_validate_json(event["data"]) for event in stream(client, job_id)]
    assert items == streamed
    later = client.get(
        f"/v1/jobs/{job_id}/events", headers={"Accept": "application/json", "Last-Event-ID": "3"}
    )
    assert later.json()["items"] == json.loads(answer.text)["items"][3:]


def test_more_events_than_fit_a_batch(client: TestClient, hand: Hand, job_id: str) -> None:
    claim = hand.claim(JobKind.PRUNE)
    many = [ChildEvent(type=EventType.METRIC, data={"name": "loss", "value": n}) for n in range(1200)]
    hand.store.jobs.record(claim, many)
    hand.finish(claim)
    assert [int(event["id"]) for event in stream(client, job_id)] == list(range(1, 1204))
    listed = client.get(f"/v1/jobs/{job_id}/events", headers={"Accept": "application/json"})
    assert len(listed.json()["items"]) == 1203


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 40])
def test_a_strange_last_id_is_422(client: TestClient, job_id: str, value: str) -> None:
    assert client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": value}).status_code == 422


def test_waiting_returns_when_the_job_ends(client: TestClient, hand: Hand, job_id: str) -> None:
    thread = finish_later(hand)
    assert client.get(f"/v1/jobs/{job_id}?wait=30").json()["status"] == "succeeded"
    thread.join()


def test_waiting_gives_up_after_its_time(client: TestClient, job_id: str) -> None:
    assert client.get(f"/v1/jobs/{job_id}?wait=0.05").json()["status"] == "queued"


@pytest.mark.parametrize("wait", ["61", "-1", "nan", "x"])
def test_waiting_has_bounds(client: TestClient, job_id: str, wait: str) -> None:
    assert client.get(f"/v1/jobs/{job_id}?wait={wait}").status_code == 422


def test_progress_shows_in_the_job(client: TestClient, hand: Hand, job_id: str) -> None:
    hand.start()
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["stage"]) == ("running", "scoring")
    assert job["progress"] == {"done": 1, "total": 4, "unit": "layers"}
    assert job["started_at"] is not None


def test_missing_jobs(client: TestClient) -> None:
    for path in ("job_" + "0" * 26, "nonsense"):
        for tail in ("", "/events", "/report", "/model"):
            answer = client.get(f"/v1/jobs/{path}{tail}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

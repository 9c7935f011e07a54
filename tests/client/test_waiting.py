"""Waiting: the stream, its cuts, the fall-back, the deadline."""

import json
from typing import Any

import anyio
import pytest

from api_schemas.ids import new_job_id
from api_schemas.jobs import JobStatus
from client import AsyncLookahead, Lookahead, NotFoundError, ServerError, WaitTimeoutError
from tests.client import answers
from tests.client.scripted import Answered, Asked, answer, problem, serving, stream

EVENTS = [
    answers.event(1, "status", status="running"),
    answers.event(2, "stage", stage="loading"),
    answers.event(3, "progress", done=1, total=2, unit="layers"),
    answers.event(4, "stage", stage="saving"),
    answers.event(5, "status", status="succeeded"),
]


@pytest.fixture(autouse=True)
def _short_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted server does not hold requests, so the client paces itself by this."""
    monkeypatch.setattr("client.waiting._LONGEST_HOLD", 0.05)


def _message(event: dict[str, Any]) -> str:
    return f"id: {event['id']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n"


class Service:
    """A job whose events are there from the start; `pieces` says how each connection to the stream goes."""

    def __init__(self, *pieces: Answered, ends_after: int = 0, final: str = "succeeded") -> None:
        self.pieces = list(pieces)
        self.looks = 0
        self.ends_after = ends_after
        self.final = final

    def __call__(self, asked: Asked) -> Answered:
        job_id = asked.path.split("/")[3]
        if asked.path.endswith("/events"):
            after = int(asked.headers.get("last-event-id", "0"))
            if asked.headers["accept"] == "text/event-stream":
                return self.pieces.pop(0) if self.pieces else stream()
            return answer({"items": [event for event in EVENTS if event["id"] > after]})
        self.looks += 1
        return answer(answers.job(self.final if self.looks > self.ends_after else "running", job_id))


def _wait(call: Any, url: str, **more: Any) -> tuple[Any, list[int]]:
    heard: list[int] = []
    found = call(url, "wait", answers.JOB_ID, on_event=lambda job, event: heard.append(event.id), **more)
    return found, heard


def test_the_stream_to_its_end(call: Any) -> None:
    service = Service(stream(": hello\n\n", *map(_message, EVENTS)))
    with serving(service) as server:
        job, heard = _wait(call, server.url)
    assert job.status is JobStatus.SUCCEEDED
    assert heard == [1, 2, 3, 4, 5]
    assert server.paths() == [f"/v1/jobs/{answers.JOB_ID}/events", f"/v1/jobs/{answers.JOB_ID}"]


@pytest.mark.parametrize("overlap", [0, 2])
def test_a_cut_stream_goes_on_without_gap_or_double(call: Any, overlap: int) -> None:
    texts = [_message(event) for event in EVENTS]
    torn = stream(*texts[:3], texts[3][:20], cut=True)
    service = Service(torn, stream(*texts[3 - overlap :]), ends_after=1)
    with serving(service) as server:
        job, heard = _wait(call, server.url)
    assert heard == [1, 2, 3, 4, 5]
    assert job.status is JobStatus.SUCCEEDED
    streams = [asked for asked in server.asked if asked.headers["accept"] == "text/event-stream"]
    assert [asked.headers.get("last-event-id") for asked in streams] == [None, "3"]


@pytest.mark.parametrize(
    "refusal",
    [
        problem(406, "invalid_recipe"),
        Answered(200, {"Content-Type": "text/html"}, b"<html>"),
        stream("id: 1\ndata: not json\n\n"),
        problem(500, "internal"),
    ],
    ids=["406", "html", "garbage", "500"],
)
def test_without_a_stream_it_polls_and_hears_the_same(call: Any, refusal: Answered) -> None:
    service = Service(*[refusal] * 5, ends_after=1)
    with serving(service) as server:
        job, heard = _wait(call, server.url)
    assert heard == [1, 2, 3, 4, 5]
    assert job.status is JobStatus.SUCCEEDED
    streams = [asked for asked in server.asked if asked.headers["accept"] == "text/event-stream"]
    assert len(streams) == 1


def test_streams_that_bring_nothing_are_given_up(call: Any) -> None:
    service = Service(*[stream()] * 50, ends_after=5)
    with serving(service) as server:
        _, heard = _wait(call, server.url)
    assert heard == [1, 2, 3, 4, 5]
    streams = [asked for asked in server.asked if asked.headers["accept"] == "text/event-stream"]
    assert len(streams) == 3


def test_a_time_out_leaves_the_job_alone(call: Any) -> None:
    service = Service(ends_after=10**6)
    with serving(service) as server, pytest.raises(WaitTimeoutError) as caught:
        _wait(call, server.url, timeout=0.3)
    assert caught.value.job_ids == (answers.JOB_ID,)
    assert isinstance(caught.value, TimeoutError)
    assert server.paths("POST") == []


def test_time_zero_takes_one_look(call: Any) -> None:
    with serving(Service()) as server:
        assert call(server.url, "wait", answers.JOB_ID, timeout=0).status is JobStatus.SUCCEEDED
    assert server.paths() == [f"/v1/jobs/{answers.JOB_ID}"]


@pytest.mark.parametrize("final", ["failed", "cancelled"])
def test_a_job_that_ends_badly_is_returned(call: Any, final: str) -> None:
    with serving(Service(final=final)) as server:
        assert call(server.url, "wait", answers.JOB_ID).status.value == final


def test_a_list_comes_back_in_its_order(call: Any) -> None:
    ids = [new_job_id() for _ in range(3)]
    heard: list[tuple[str, int]] = []
    with serving(Service(*[stream(*map(_message, EVENTS))] * 3)) as server:
        found = call(server.url, "wait", ids, on_event=lambda job, event: heard.append((job, event.id)))
        assert call(server.url, "wait", []) == []
    assert [job.id for job in found] == ids
    assert heard == [(job, number) for job in ids for number in range(1, 6)]


def test_a_list_out_of_time_names_those_that_are_not_done(call: Any) -> None:
    ids = [new_job_id() for _ in range(3)]

    def script(asked: Asked) -> Answered:
        job_id = asked.path.split("/")[3]
        return answer(answers.job("succeeded" if job_id == ids[1] else "running", job_id))

    with serving(script) as server, pytest.raises(WaitTimeoutError) as caught:
        call(server.url, "wait", ids, timeout=0.2)
    assert caught.value.job_ids == (ids[0], ids[2])


def test_an_outage_is_sat_out(call: Any) -> None:
    troubles = [problem(503, "internal"), Answered(200, {"Content-Length": "9"}, b"{", cut=1)] * 4
    service = Service()
    with serving(lambda asked: troubles.pop() if troubles else service(asked)) as server:
        assert call(server.url, "wait", answers.JOB_ID).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize(("status", "kind"), [(404, NotFoundError), (500, ServerError)])
def test_what_does_not_pass_ends_the_wait(call: Any, status: int, kind: type[Exception]) -> None:
    with serving(lambda asked: problem(status, "not_found")) as server, pytest.raises(kind):
        _wait(call, server.url)


def test_follow_gives_events_until_the_end(call: Any) -> None:
    with serving(Service(stream(*map(_message, EVENTS)))) as server:
        assert [event.id for event in call(server.url, "follow", answers.JOB_ID)] == [1, 2, 3, 4, 5]
    with serving(Service(stream(*map(_message, EVENTS)))) as server:
        assert [event.id for event in call(server.url, "follow", answers.JOB_ID, after=3)] == [4, 5]


def test_recorded_events_page_on_until_nothing_is_new(call: Any) -> None:
    def script(asked: Asked) -> Answered:
        after = int(asked.headers.get("last-event-id", "0"))
        return answer({"items": [event for event in EVENTS if event["id"] > after][:2]})

    with serving(script) as server:
        assert [event.id for event in call(server.url, "events", answers.JOB_ID)] == [1, 2, 3, 4, 5]
    assert len(server.asked) == 4


def test_an_awaitable_listener_is_awaited() -> None:
    heard: list[int] = []

    async def run(url: str) -> None:
        async def listen(job_id: str, event: Any) -> None:
            await anyio.sleep(0)
            heard.append(event.id)

        async with AsyncLookahead(url) as client:
            await client.wait(answers.JOB_ID, on_event=listen)

    with serving(Service(stream(*map(_message, EVENTS)))) as server:
        anyio.run(run, server.url)
    assert heard == [1, 2, 3, 4, 5]


def test_leaving_a_stream_in_the_middle_closes_it() -> None:
    slow = stream(*map(_message, EVENTS[:2]))
    service = Service(Answered(200, slow.headers, slow.body, hold=0.2), ends_after=9)
    with serving(service) as server, Lookahead(server.url) as client:
        events = client.follow(answers.JOB_ID)
        assert next(events).id == 1
        events.close()
        assert client.job(answers.JOB_ID).id == answers.JOB_ID

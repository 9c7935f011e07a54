"""Waiting for jobs: the event stream while it works, polling while it does not."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import final

from pydantic import ValidationError

from api_schemas.events import Event, EventList, EventType
from api_schemas.jobs import Job, JobStatus
from client import endpoints
from client.errors import ApiError, LookaheadError, ProtocolError, UnreachableError, WaitTimeoutError
from client.flow import Close, Emit, Flow, Open, Read, Sleep, exchange, send
from client.retry import RetryPolicy
from client.sse import EventStream, Message
from client.wire import Reply

#: Nearer than this to the deadline we poll: heartbeats, 15 s apart, are all that wakes a stream.
_STREAM_MARGIN = 20.0
_LONGEST_HOLD = 2.0
_LONGEST_OUTAGE = 120.0
_LASTING_STREAM = 5.0
_BARREN_STREAMS = 3


@final
@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock; without `seconds` it never comes."""

    seconds: float | None = None
    start: float = field(default_factory=time.monotonic)

    @property
    def remaining(self) -> float:
        """Seconds left, at least 0."""
        if self.seconds is None:
            return float("inf")
        return max(0.0, self.start + self.seconds - time.monotonic())


@final
@dataclass(frozen=True)
class JobEvent:
    """An event, and whose it is."""

    job_id: str
    event: Event


@final
@dataclass
class Watch:
    """How far the watching of one job has come."""

    job_id: str
    deadline: Deadline
    policy: RetryPolicy
    last_id: int = 0
    ended: bool = False
    barren: int = 0
    told: bool = True

    @property
    def streaming(self) -> bool:
        """Whether another try at the event stream is worth it."""
        fruitful = self.barren < _BARREN_STREAMS and not self.ended
        return fruitful and self.deadline.remaining > _STREAM_MARGIN


def wait(watch: Watch) -> Flow[Job]:
    """The finished job; emits each of its events once, as `JobEvent`, when `watch.told`.

    Raises `WaitTimeoutError` at the deadline (the job runs on) and, after two minutes without the server,
    `UnreachableError`.
    """
    while True:
        if watch.streaming:
            yield from listen(watch)
        elif watch.told:
            yield from _catch_up(watch)
        job = yield from _look(watch)
        if job.status.finished:
            yield from _catch_up(watch)
            return job
        if watch.deadline.remaining <= 0:
            raise WaitTimeoutError([watch.job_id], watch.deadline.seconds or 0)


def follow(watch: Watch) -> Flow[None]:
    """Emit the events of a job until it ends."""
    yield from wait(watch)


def recorded(job_id: str, after: int, policy: RetryPolicy) -> Flow[list[Event]]:
    """The events with a higher number than `after`, as they stand now."""
    found: list[Event] = []
    while True:
        reply = yield from exchange(endpoints.events(job_id, after), policy)
        fresh = [event for event in reply.parse(EventList).items if event.id > after]
        if not fresh:
            return found
        found += fresh
        after = fresh[-1].id


def listen(watch: Watch) -> Flow[None]:
    """One connection to the event stream, until the job or the connection ends or the deadline nears."""
    before, began = watch.last_id, time.monotonic()
    try:
        reply: Reply = yield Open(
            endpoints.event_stream(watch.job_id, watch.last_id, watch.deadline.remaining)
        )
        reply.check()
        yield from _relay(watch, reply)
    except UnreachableError:
        pass
    except (ApiError, ProtocolError):
        watch.barren = _BARREN_STREAMS
    yield Close()
    useful = watch.last_id > before or time.monotonic() - began > _LASTING_STREAM
    watch.barren = 0 if useful and watch.barren < _BARREN_STREAMS else watch.barren + 1


def _relay(watch: Watch, reply: Reply) -> Flow[None]:
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        raise ProtocolError(f"the events came as {kind or 'nothing'}, not as a stream")
    stream = EventStream()
    while not watch.ended and watch.deadline.remaining > _STREAM_MARGIN:
        chunk: bytes | None = yield Read()
        if chunk is None:
            return
        for message in stream.feed(chunk):
            yield from _tell(watch, _event(message))


def _event(message: Message) -> Event:
    try:
        return Event.model_validate_json(message.data)
    except ValidationError as error:
        raise ProtocolError(f"event {message.id or '?'} is not of the contract") from error


def _tell(watch: Watch, event: Event) -> Flow[None]:
    if event.id <= watch.last_id:
        return
    watch.last_id = event.id
    status = event.data.get("status")
    if event.type is EventType.STATUS and status in set(JobStatus):
        watch.ended = JobStatus(str(status)).finished
    if watch.told:
        yield Emit(JobEvent(watch.job_id, event))


def _catch_up(watch: Watch) -> Flow[None]:
    """Tell what the stream did not get to tell."""
    if watch.ended or not watch.told:
        return
    try:
        events = yield from recorded(watch.job_id, watch.last_id, watch.policy)
    except (ApiError, UnreachableError, ProtocolError):
        return  # the job's own state decides, and is asked for next
    for event in events:
        yield from _tell(watch, event)


def _look(watch: Watch) -> Flow[Job]:
    """The job as it is, held a moment by the server; sits out outages that pass."""
    outage = Deadline(_LONGEST_OUTAGE)
    for attempt in count():
        hold = Deadline(0.0 if watch.streaming else min(_LONGEST_HOLD, watch.deadline.remaining))
        try:
            reply = yield from send(endpoints.job(watch.job_id, hold.remaining))
        except LookaheadError as error:
            patience = min(outage.remaining, watch.deadline.remaining)
            if patience <= 0 or not watch.policy.passing(error):
                raise
            yield Sleep(min(watch.policy.backoff(min(attempt, 8)), patience))
        else:
            job = reply.parse(Job)
            if not job.status.finished and hold.remaining:
                yield Sleep(hold.remaining)  # something between us and the server does not hold requests
            return job
    raise AssertionError("count() does not end")


def wait_all(watches: Sequence[Watch]) -> Flow[list[Job]]:
    """The finished jobs in the order given, watched in turn. Raises `WaitTimeoutError` naming the rest."""
    finished: list[Job] = []
    unfinished: list[str] = []
    for watch in watches:
        try:
            finished.append((yield from wait(watch)))
        except WaitTimeoutError:
            unfinished.append(watch.job_id)
    if unfinished:
        raise WaitTimeoutError(unfinished, watches[0].deadline.seconds or 0)
    return finished

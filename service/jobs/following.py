"""Following a job: waiting for its end, and its events as they come, with replay."""

import time
from collections.abc import AsyncIterator, Callable
from typing import final

import anyio
from anyio.to_thread import run_sync
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from api_schemas.events import Event
from service.context import Context
from store.records import JobRecord

_SLOWEST_POLL = 1.0
_BATCH = 500


async def wait_for_end(context: Context, read: Callable[[], JobRecord], seconds: float) -> JobRecord:
    """The job as soon as it has ended, or as it is after `seconds` or when the process is to stop.

    `read` blocks and runs in a thread.
    """
    deadline = time.monotonic() + seconds
    pause = context.settings.poll_seconds
    while True:
        job = await run_sync(read)
        left = deadline - time.monotonic()
        if job.status.finished or left <= 0 or context.stopping.is_set():
            return job
        await anyio.sleep(min(pause, left))
        pause = min(pause * 1.2, max(_SLOWEST_POLL, context.settings.poll_seconds))


@final
class EventStream:
    """One reader of one job's events."""

    def __init__(self, context: Context, job_id: str, after: int) -> None:
        self._context = context
        self._jobs = context.store.jobs
        self._job_id = job_id
        self._after = after

    async def chunks(self) -> AsyncIterator[bytes]:
        """Server-Sent Events until the job has ended and its last event is sent; comments when quiet."""
        quiet_since = time.monotonic()
        yield b"retry: 1000\n\n"
        while True:
            # Status first: events of a job that had ended by then are all there to be read.
            finished = (await run_sync(self._jobs.get, self._job_id)).status.finished
            events = await run_sync(self._jobs.events, self._job_id, self._after, _BATCH)
            for event in events:
                yield encoded(event)
            if events:
                self._after = events[-1].id
                quiet_since = time.monotonic()
            elif finished or self._context.stopping.is_set():
                return
            elif time.monotonic() - quiet_since >= self._context.settings.heartbeat_seconds:
                quiet_since = time.monotonic()
                yield KEEPALIVE_COMMENT
            if len(events) < _BATCH and not finished:
                await anyio.sleep(self._context.settings.poll_seconds)


def encoded(event: Event) -> bytes:
    """The event on the wire; its data is the whole event, so a reader needs nothing else."""
    return format_sse_event(data_str=event.model_dump_json(), event=event.type.value, id=str(event.id))


def all_events(context: Context, job_id: str, after: int) -> list[Event]:
    """Every event so far after that number. Blocks: call from a thread."""
    events: list[Event] = []
    while batch := context.store.jobs.events(job_id, after, _BATCH):
        events.extend(batch)
        after = batch[-1].id
    return events

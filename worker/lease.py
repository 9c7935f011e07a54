"""Holding on to a claim: heartbeats and events go to the store from a thread of their own.

The thread may hang in a database that does not answer; whoever runs the child asks `expired`, which looks
at a clock only, and so stops the child before anybody else can be given the job.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, Self, final

from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import Progress, Stage
from store.errors import StaleClaimError
from store.records import Beat, Claim
from worker.logs import log

_BEATS_PER_LEASE: Final = 3
_MOST_SECONDS_BETWEEN_BEATS: Final = 2.0  # a cancel is seen with the beat
_SAFE_SHARE: Final = 0.8  # of the lease; the rest is time to kill the child
_FLUSH_SECONDS: Final = 0.25
_MOST_WAITING: Final = 2_000


def now() -> float:
    """Seconds of a clock that only goes forward, and goes on while the machine or the process sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Keeper(Protocol):
    """The part of the job store that a lease needs."""

    def heartbeat(self, claim: Claim) -> Beat:
        """Extend the lease."""

    def record(
        self,
        claim: Claim,
        events: "list[ChildEvent]",
        *,
        stage: Stage | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Append events."""


@final
class Lease:
    """A claim kept alive while the block runs. `claimed_at` is `now()` from before the claim was made."""

    def __init__(
        self,
        jobs: Keeper,
        claim: Claim,
        *,
        claimed_at: float,
        seconds: float,
        clock: Callable[[], float] = now,
    ) -> None:
        self._jobs, self._claim, self._seconds, self._clock = jobs, claim, seconds, clock
        self._held_from = claimed_at
        self._waiting: list[ChildEvent] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease {claim.job.id}", daemon=True)
        self.lost = False
        self.cancel_requested = claim.job.cancel_requested

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Write what waits, and beat no more. Gives up on a database that hangs when the lease is over."""
        self._ending.set()
        self._thread.join(max(0.1, self._held_from + self._seconds - self._clock()))

    def add(self, event: ChildEvent) -> None:
        """Have an event written. Progress replaces progress that still waits."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if last is not None and last.type is event.type is EventType.PROGRESS:
                self._waiting[-1] = event
            elif len(self._waiting) < _MOST_WAITING:
                self._waiting.append(event)

    @property
    def claim(self) -> Claim:
        """What is held."""
        return self._claim

    @property
    def expired(self) -> bool:
        """True when the job may soon be somebody else's: the child must be gone by then."""
        return self.lost or self._clock() >= self._held_from + self._seconds * _SAFE_SHARE

    def _keep(self) -> None:
        """Flush often, beat every third of a lease; a failure is tried again until the lease is over."""
        between = min(_MOST_SECONDS_BETWEEN_BEATS, self._seconds / _BEATS_PER_LEASE)
        next_beat = self._held_from + between
        while not self.lost and not self._ending.wait(_FLUSH_SECONDS):
            self._guarded(self._flush)
            if self._clock() >= next_beat:
                beaten = self._guarded(self._beat)
                next_beat = self._clock() + (between if beaten else between / 4)
        if not self.lost:
            self._guarded(self._flush)

    def _guarded(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except StaleClaimError:
            self.lost = True
            log("lease lost", job=self._claim.job.id, token=self._claim.token)
        except Exception as error:  # the database is away: the lease decides for how long that is borne
            log("store unreachable", job=self._claim.job.id, error=repr(error)[:500])
        else:
            return True
        return False

    def _beat(self) -> None:
        asked = self._clock()  # before the call: the database counts from some moment after it
        beat = self._jobs.heartbeat(self._claim)
        self._held_from = asked
        self.cancel_requested = self.cancel_requested or beat.cancel_requested

    def _flush(self) -> None:
        with self._lock:
            events, self._waiting = self._waiting, []
        if not events:
            return
        try:
            self._jobs.record(self._claim, events, stage=_last_stage(events), progress=_last_progress(events))
        except StaleClaimError:
            raise
        except Exception:
            with self._lock:
                self._waiting = (events + self._waiting)[-_MOST_WAITING:]
            raise


def _last_stage(events: list[ChildEvent]) -> Stage | None:
    stages = [event.data["stage"] for event in events if event.type is EventType.STAGE]
    return Stage(stages[-1]) if stages else None


def _last_progress(events: list[ChildEvent]) -> Progress | None:
    """Of the present stage: a new stage starts from nothing."""
    for event in reversed(events):
        if event.type is EventType.STAGE:
            return Progress()
        if event.type is EventType.PROGRESS:
            return Progress.model_validate(event.data)
    return None

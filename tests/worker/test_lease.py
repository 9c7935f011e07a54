"""The lease on a clock of the test's own, and with a store that hangs, fails or has moved on."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from api_schemas.events import ChildEvent, EventType
from api_schemas.ids import new_job_id, new_model_id
from api_schemas.jobs import JobStatus, Progress, Stage
from store.errors import StaleClaimError, UnavailableError
from store.records import Beat, Claim, JobKind, JobRecord
from tests.faults.worker_process import eventually
from worker.lease import Lease

SECONDS = 30.0


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Keeper:
    """A job store that remembers what it was told, and answers as `answer` does."""

    def __init__(self) -> None:
        self.beats = 0
        self.events: list[ChildEvent] = []
        self.stages: list[Stage | None] = []
        self.progress: list[Progress | None] = []
        self.answer: Callable[[], bool] = lambda: False

    def heartbeat(self, claim: Claim) -> Beat:
        cancel = self.answer()
        self.beats += 1
        return Beat(cancel)

    def record(
        self,
        claim: Claim,
        events: Sequence[ChildEvent],
        *,
        stage: Stage | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.answer()
        self.events += events
        self.stages.append(stage)
        self.progress.append(progress)


def claim() -> Claim:
    job = JobRecord(
        id=new_job_id(),
        kind=JobKind.PRUNE,
        status=JobStatus.RUNNING,
        model_id=new_model_id(),
        dataset_id=None,
        recipe=None,
        inputs={},
        metadata={},
        webhook_url=None,
        attempts=1,
        max_attempts=3,
        created_at=datetime.now(UTC),
    )
    return Claim(job=job, token=1, worker="w")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


def lease_on(keeper: Keeper, clock: Clock) -> Lease:
    return Lease(keeper, claim(), claimed_at=clock.time, seconds=SECONDS, clock=clock)


def event(type_: EventType, **data: object) -> ChildEvent:
    return ChildEvent(type=type_, data=data)


def raising(error: Exception) -> Callable[[], bool]:
    def answer() -> bool:
        raise error

    return answer


def test_a_beat_moves_the_end_on(keeper: Keeper, clock: Clock) -> None:
    with lease_on(keeper, clock) as lease:
        clock.time += SECONDS * 0.7
        eventually(lambda: keeper.beats >= 1)
        clock.time += SECONDS * 0.7
        eventually(lambda: keeper.beats >= 2)
        eventually(lambda: not lease.expired)


def test_a_store_that_fails_lets_the_lease_expire_before_its_end(keeper: Keeper, clock: Clock) -> None:
    keeper.answer = raising(UnavailableError("away"))
    with lease_on(keeper, clock) as lease:
        clock.time += SECONDS * 0.79
        assert not lease.expired
        clock.time += SECONDS * 0.02
        assert lease.expired and not lease.lost


def test_a_store_that_hangs_does_too(keeper: Keeper, clock: Clock) -> None:
    hang, hanging = threading.Event(), threading.Event()

    def answer() -> bool:
        hanging.set()
        return hang.wait(60)

    keeper.answer = answer
    with lease_on(keeper, clock) as lease:
        clock.time += 5
        assert hanging.wait(60)
        clock.time += SECONDS
        assert lease.expired
        hang.set()


def test_a_beat_counts_from_before_it_was_asked_for(keeper: Keeper, clock: Clock) -> None:
    """However long the answer takes: the database has set the end at some time since the question."""

    def answer() -> bool:
        clock.time += SECONDS * 0.9
        return False

    keeper.answer = answer
    with lease_on(keeper, clock) as lease:
        clock.time += 5
        eventually(lambda: keeper.beats >= 1)
        assert lease.expired


def test_a_lease_that_passed_on_is_lost_for_good(keeper: Keeper, clock: Clock) -> None:
    keeper.answer = raising(StaleClaimError("gone"))
    with lease_on(keeper, clock) as lease:
        clock.time += 5
        eventually(lambda: lease.lost)
        assert lease.expired


def test_a_cancel_is_heard_with_the_beat(keeper: Keeper, clock: Clock) -> None:
    keeper.answer = lambda: True
    with lease_on(keeper, clock) as lease:
        assert not lease.cancel_requested
        clock.time += 5
        eventually(lambda: lease.cancel_requested)


def test_events_are_written_in_order_with_stage_and_progress(keeper: Keeper, clock: Clock) -> None:
    with lease_on(keeper, clock) as lease:
        lease.add(event(EventType.STAGE, stage="loading"))
        lease.add(event(EventType.PROGRESS, done=1, total=9, unit=None))
        lease.add(event(EventType.PROGRESS, done=2, total=9, unit=None))
        lease.add(event(EventType.WARNING, message="w"))
    assert [e.type for e in keeper.events] == [EventType.STAGE, EventType.PROGRESS, EventType.WARNING]
    assert keeper.stages == [Stage.LOADING]
    assert keeper.progress == [Progress(done=2, total=9)]


def test_a_new_stage_begins_without_progress(keeper: Keeper, clock: Clock) -> None:
    with lease_on(keeper, clock) as lease:
        lease.add(event(EventType.PROGRESS, done=2, total=9, unit=None))
        lease.add(event(EventType.STAGE, stage="saving"))
    assert keeper.progress == [Progress()]


def test_events_wait_for_a_store_that_comes_back(keeper: Keeper, clock: Clock) -> None:
    keeper.answer = raising(UnavailableError("away"))
    with lease_on(keeper, clock) as lease:
        for number in range(3):
            lease.add(event(EventType.METRIC, name="n", value=number))
        threading.Event().wait(0.6)
        assert keeper.events == []
        keeper.answer = lambda: False
        lease.add(event(EventType.METRIC, name="n", value=3))
        lease.end()
    assert [e.data["value"] for e in keeper.events] == [0, 1, 2, 3]

"""Claims: order, leases, fencing, and the ways in which an attempt ends."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from api_schemas.errors import ErrorCode
from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import JobStatus, Progress, Stage, Summary
from store import Store
from store.errors import ConflictError, NotFoundError, StaleClaimError
from store.records import BlobRef, Claim, JobKind, Outcome
from tests.store import samples
from tests.store.conftest import OpenStore

Write = Callable[[Store, Claim], object]
WRITES: dict[str, Write] = {
    "heartbeat": lambda store, claim: store.jobs.heartbeat(claim),
    "record": lambda store, claim: store.jobs.record(claim, samples.warnings("late")),
    "finish": lambda store, claim: store.jobs.finish(claim, Outcome(inspection=samples.INSPECTION)),
    "fail": lambda store, claim: store.jobs.fail(claim, samples.ERROR, retry=False),
    "retry": lambda store, claim: store.jobs.fail(claim, samples.ERROR, retry=True),
    "cancelled": lambda store, claim: store.jobs.cancelled(claim),
    "release": lambda store, claim: store.jobs.release(claim),
}


def test_a_claim_counts_the_attempt_and_starts_the_job(store: Store) -> None:
    claim = samples.running(store)
    assert (claim.worker, claim.token, claim.job.status, claim.job.attempts) == (
        "w1",
        1,
        JobStatus.RUNNING,
        1,
    )
    assert claim.job.started_at is not None and claim.job.started_at >= claim.job.created_at
    assert store.jobs.get(claim.job.id) == claim.job
    assert store.jobs.events(claim.job.id)[-1].data == {"status": "running", "attempt": 1}


def test_nothing_is_claimed_twice_or_from_an_empty_queue(store: Store) -> None:
    claim = samples.running(store)
    assert store.jobs.claim("w2") is None
    assert store.jobs.claim("w2", job_id=claim.job.id) is None


def test_users_who_wait_come_first_then_the_oldest(store: Store) -> None:
    ids = []
    for kind in (JobKind.PRUNE, JobKind.PRUNE, JobKind.INSPECT, JobKind.PLAN):
        ids.append(samples.queue(store, kind))
        time.sleep(0.002)  # SQLite's clock has milliseconds
    assert [samples.claim(store).job.id for _ in ids] == [ids[2], ids[3], ids[0], ids[1]]


def test_a_claim_may_ask_for_a_job_or_for_kinds(store: Store) -> None:
    first, second, inspection = (
        samples.queue(store),
        samples.queue(store),
        samples.queue(store, JobKind.INSPECT),
    )
    assert samples.claim(store, second).job.id == second
    only_prune = store.jobs.claim("w", kinds=[JobKind.PRUNE])
    assert only_prune is not None and only_prune.job.id == first
    assert store.jobs.claim("w", job_id=inspection, kinds=[JobKind.PLAN]) is None
    assert store.jobs.claim("w", kinds=[]) is None


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writes_after_the_lease_has_ended_are_refused(store: Store, write: Write) -> None:
    first = samples.running(store, JobKind.INSPECT)
    samples.lapse(store, first.job.id)
    before = store.jobs.get(first.job.id)
    with pytest.raises(StaleClaimError):
        write(store, first)
    assert store.jobs.get(first.job.id) == before
    assert store.models.get(first.job.model_id).inspection is None


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writes_of_the_first_claimant_are_refused_once_there_is_a_second(store: Store, write: Write) -> None:
    first = samples.running(store, JobKind.INSPECT)
    samples.lapse(store, first.job.id)
    assert store.jobs.reconcile().requeued == (first.job.id,)
    second = samples.claim(store, first.job.id, worker="w2")
    assert (second.token, second.job.attempts) == (2, 2)
    with pytest.raises(StaleClaimError):
        write(store, first)
    assert store.jobs.get(first.job.id) == second.job
    assert store.jobs.finish(second, Outcome()).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_nothing_is_written_to_an_ended_job(store: Store, write: Write) -> None:
    claim = samples.running(store)
    done = store.jobs.finish(claim, Outcome())
    with pytest.raises(StaleClaimError):
        write(store, claim)
    assert store.jobs.get(claim.job.id) == done


def test_heartbeats_hold_a_lease_and_without_them_it_ends(open_test_store: OpenStore) -> None:
    store = open_test_store(lease_seconds=0.5)
    claim = samples.running(store)
    for _ in range(4):
        time.sleep(0.2)
        assert not store.jobs.heartbeat(claim).cancel_requested
        assert store.jobs.reconcile().requeued == ()
    time.sleep(0.6)
    assert store.jobs.reconcile().requeued == (claim.job.id,)


def test_a_finished_job_shows_its_outcome(store: Store) -> None:
    claim = samples.running(store)
    blobs = {
        role: BlobRef(samples.digest(role), 2**33, f"{role}.bin") for role in ("model", "report", "page")
    }
    summary = Summary(sparsity=0.8, output_cosine=0.99)
    job = store.jobs.finish(claim, Outcome(summary=summary, **blobs))
    assert job == store.jobs.get(claim.job.id)
    assert (job.status, job.summary, job.error) == (JobStatus.SUCCEEDED, summary, None)
    assert {"model": job.model, "report": job.report, "page": job.page} == blobs
    assert job.finished_at is not None and job.started_at is not None and job.finished_at >= job.started_at
    assert samples.history(store, job.id) == ["queued", "running", "succeeded"]


def test_a_plan_is_kept_as_it_is(store: Store) -> None:
    plan = {"layers": [{"name": "a\x00b", "sparsity": 0.5}], "warnings": []}
    job = store.jobs.finish(samples.running(store, JobKind.PLAN), Outcome(plan=plan))
    assert job.plan == plan and job.model is None


def test_an_inspection_reaches_every_model_with_the_same_bytes(store: Store) -> None:
    claim = samples.running(store, JobKind.INSPECT)
    twin, stranger = samples.add_model(store), samples.add_model(store, "other bytes")
    store.jobs.finish(claim, Outcome(inspection=samples.INSPECTION))
    for model_id in (claim.job.model_id, twin.id, samples.add_model(store).id):
        assert store.models.get(model_id).inspection == samples.INSPECTION
    assert store.models.get(stranger.id).inspection is None


def test_a_failed_inspection_is_told_until_one_succeeds(store: Store) -> None:
    failed, succeeded = samples.running(store, JobKind.INSPECT), samples.running(store, JobKind.INSPECT)
    store.jobs.fail(failed, samples.ERROR, retry=False)
    assert store.models.get(succeeded.job.model_id).inspection_error == samples.ERROR
    store.jobs.finish(succeeded, Outcome(inspection=samples.INSPECTION))
    model = store.models.get(failed.job.model_id)
    assert (model.inspection, model.inspection_error) == (samples.INSPECTION, None)
    store.jobs.fail(samples.running(store, JobKind.INSPECT), samples.ERROR, retry=False)
    assert store.models.get(failed.job.model_id).inspection_error is None


def test_the_inspection_of_a_deleted_model_goes_nowhere(store: Store) -> None:
    claim = samples.running(store, JobKind.INSPECT)
    samples.set_columns(store, claim.job.id, model_id="mdl_gone")
    assert store.jobs.finish(claim, Outcome(inspection=samples.INSPECTION)).status is JobStatus.SUCCEEDED
    assert store.models.get(claim.job.model_id).inspection is None


def test_a_failure_without_retry_is_final(store: Store) -> None:
    job = store.jobs.fail(samples.running(store), samples.ERROR, retry=False)
    assert (job.status, job.error, job.attempts) == (JobStatus.FAILED, samples.ERROR, 1)
    assert store.jobs.events(job.id)[-1].data["error"] == samples.ERROR.model_dump(mode="json")


def test_retries_end_after_the_last_attempt(store: Store) -> None:
    job_id = samples.queue(store, max_attempts=3)
    for attempt in (1, 2, 3):
        claim = samples.claim(store, job_id)
        store.jobs.record(claim, [], stage=Stage.SCORING, progress=Progress(done=1, total=2))
        job = store.jobs.fail(claim, samples.ERROR, retry=True)
        assert job.attempts == attempt
        if attempt < 3:
            assert (job.status, job.error, job.stage, job.progress) == (
                JobStatus.QUEUED,
                None,
                None,
                Progress(),
            )
            assert job.started_at is None
            assert store.jobs.events(job_id)[-1].data["error"]["message"] == samples.ERROR.message
    assert (job.status, job.error) == (JobStatus.FAILED, samples.ERROR)
    assert samples.history(store, job_id) == ["queued", "running"] * 3 + ["failed"]


def test_a_release_does_not_count_the_attempt(store: Store) -> None:
    job_id = samples.queue(store, max_attempts=1)
    for _ in range(3):
        store.jobs.release(samples.claim(store, job_id))
        assert store.jobs.get(job_id).attempts == 0
    assert store.jobs.finish(samples.claim(store, job_id), Outcome()).attempts == 1


@pytest.mark.parametrize("write", [WRITES["release"], WRITES["retry"]], ids=["release", "retry"])
def test_a_job_to_be_cancelled_is_not_queued_again(store: Store, write: Write) -> None:
    claim = samples.running(store)
    store.jobs.cancel(claim.job.id)
    write(store, claim)
    job = store.jobs.get(claim.job.id)
    assert job.status is JobStatus.CANCELLED and job.finished_at is not None
    assert job.error is not None and job.error.code is ErrorCode.CANCELLED
    assert job.started_at == claim.job.started_at


def test_progress_is_kept_and_events_are_numbered_on(store: Store) -> None:
    claim = samples.running(store)
    store.jobs.record(claim, samples.warnings("a", "b"), stage=Stage.LOADING)
    store.jobs.record(claim, [], progress=Progress(done=3, total=9, unit="layers"))
    store.jobs.record(
        claim, [ChildEvent(type=EventType.METRIC, data={"value": float("nan"), "all": [float("inf"), 1]})]
    )
    job = store.jobs.get(claim.job.id)
    assert (job.stage, job.progress) == (Stage.LOADING, Progress(done=3, total=9, unit="layers"))
    events = store.jobs.events(job.id, after=2)
    assert [(event.id, event.data) for event in events] == [
        (3, {"message": "a"}),
        (4, {"message": "b"}),
        (5, {"value": None, "all": [None, 1]}),
    ]
    assert store.jobs.events(job.id, after=1, limit=2) == store.jobs.events(job.id)[1:3]
    assert store.jobs.events(job.id, after=10**30) == ()
    assert timedelta(0) <= events[0].at - job.created_at < timedelta(minutes=10)
    with pytest.raises(NotFoundError):
        store.jobs.events("job_x")


def test_cancel_against_finish_ends_in_one_state(store: Store) -> None:
    def cancel(job_id: str) -> bool:
        try:
            store.jobs.cancel(job_id)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            claim = samples.running(store)
            finished, asked = (
                pool.submit(store.jobs.finish, claim, Outcome()),
                pool.submit(cancel, claim.job.id),
            )
            assert finished.result().status is JobStatus.SUCCEEDED
            assert store.jobs.get(claim.job.id).cancel_requested == asked.result()
            assert samples.history(store, claim.job.id)[-1] == "succeeded"


def test_cancel_against_claim_ends_in_one_state(store: Store) -> None:
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            job_id = samples.queue(store)
            claimed, cancelled = pool.submit(store.jobs.claim, "w"), pool.submit(store.jobs.cancel, job_id)
            job = cancelled.result()
            assert job.status is (JobStatus.CANCELLED if claimed.result() is None else JobStatus.RUNNING)
            assert job.cancel_requested == (claimed.result() is not None)

"""The sweep: lost workers, unheard bells, many sweeps at once."""

from concurrent.futures import ThreadPoolExecutor

from api_schemas.errors import ErrorCode
from api_schemas.jobs import JobStatus
from store import Store
from store.clock import from_now
from store.records import JobKind, Reconciled
from tests.store import samples
from tests.store.conftest import OpenStore


def test_there_is_nothing_to_do_for_living_jobs(store: Store) -> None:
    samples.running(store)
    samples.queue(store)
    assert store.jobs.reconcile() == Reconciled()


def test_a_lost_job_is_queued_again_until_its_attempts_are_used_up(store: Store) -> None:
    job_id = samples.queue(store, max_attempts=3)
    for attempt in (1, 2, 3):
        samples.claim(store, job_id)
        samples.lapse(store, job_id)
        swept = store.jobs.reconcile()
        assert (swept.requeued, swept.failed) == (((job_id,), ()) if attempt < 3 else ((), (job_id,)))
        assert store.jobs.reconcile() == Reconciled()
    job = store.jobs.get(job_id)
    assert (job.status, job.attempts) == (JobStatus.FAILED, 3)
    assert (
        job.error is not None and job.error.code is ErrorCode.WORKER_LOST and "attempt 3" in job.error.message
    )
    assert samples.history(store, job_id) == ["queued", "running"] * 3 + ["failed"]
    assert store.jobs.events(job_id)[2].data["error"]["code"] == "worker_lost"


def test_a_lost_job_that_was_to_be_cancelled_is(store: Store) -> None:
    claim = samples.running(store)
    store.jobs.cancel(claim.job.id)
    samples.lapse(store, claim.job.id)
    assert store.jobs.reconcile() == Reconciled(cancelled=(claim.job.id,))
    assert store.jobs.get(claim.job.id).status is JobStatus.CANCELLED


def test_a_lost_inspection_is_told_by_the_model(store: Store) -> None:
    claim = samples.running(store, JobKind.INSPECT, max_attempts=1)
    samples.lapse(store, claim.job.id)
    assert store.jobs.reconcile().failed == (claim.job.id,)
    error = store.models.get(claim.job.model_id).inspection_error
    assert error is not None and error.code is ErrorCode.WORKER_LOST and "only attempt" in error.message


def test_unheard_bells_are_rung_again_once_per_sweep(open_test_store: OpenStore) -> None:
    store = open_test_store(sweep_seconds=60)
    waiting, fresh = samples.queue(store), samples.queue(store)
    samples.set_columns(store, waiting, rung_at=from_now(-61))
    assert store.jobs.reconcile().queued == (waiting,)
    assert store.jobs.reconcile().queued == ()
    samples.set_columns(store, fresh, rung_at=from_now(-61))
    samples.claim(store, fresh)
    assert store.jobs.reconcile().queued == ()


def test_each_lost_job_is_dealt_with_by_one_of_many_sweeps(store: Store) -> None:
    lost = [samples.running(store).job.id for _ in range(60)]
    for job_id in lost:
        samples.lapse(store, job_id)
    with ThreadPoolExecutor(8) as pool:
        sweeps = list(pool.map(lambda _: store.jobs.reconcile().requeued, range(8)))
    assert sorted(job_id for swept in sweeps for job_id in swept) == sorted(lost)
    for job_id in lost:
        assert samples.history(store, job_id) == ["queued", "running", "queued"]

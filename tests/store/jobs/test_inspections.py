"""Models that were stored without anybody asking for their inspection."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import update

from store import Store
from store.clock import from_now
from store.records import JobKind, NewJob, Outcome
from store.tables import ModelRow
from tests.store import samples


def age(store: Store, seconds: float = 61) -> None:
    """Let every model have been stored so long ago."""
    with store._database.engine.begin() as connection:
        connection.execute(update(ModelRow).values(created_at=from_now(-seconds)))


def inspections(store: Store) -> list[str]:
    return [job.model_id for job in store.jobs.list(kind=JobKind.INSPECT).items]


def test_a_model_that_was_forgotten_gets_its_inspection(store: Store) -> None:
    model = samples.add_model(store)
    assert store.jobs.reconcile().queued == ()  # whoever stored it may be about to ask
    age(store)
    (job_id,) = store.jobs.reconcile().queued
    job = store.jobs.get(job_id)
    assert (job.kind, job.model_id, job.max_attempts) == (JobKind.INSPECT, model.id, 3)
    assert store.jobs.reconcile().queued == ()
    claim = samples.claim(store, job_id)
    store.jobs.finish(claim, Outcome(inspection=samples.INSPECTION))
    assert store.models.get(model.id).inspection == samples.INSPECTION
    assert store.jobs.reconcile().queued == ()


def test_models_that_were_asked_about_are_left_alone(store: Store) -> None:
    asked, failed, done = (samples.add_model(store, name) for name in ("asked", "failed", "done"))
    for model in (asked, failed, done):
        store.jobs.submit(NewJob(JobKind.INSPECT, model.id))
    store.jobs.fail(samples.claim(store, next_of(store, failed.id)), samples.ERROR, retry=False)
    store.jobs.finish(samples.claim(store, next_of(store, done.id)), Outcome(inspection=samples.INSPECTION))
    store.jobs.expire(0)  # the jobs of the two that have ended are forgotten; what they found is not
    age(store)
    store.jobs.reconcile()
    assert inspections(store) == [asked.id]


def next_of(store: Store, model_id: str) -> str:
    return next(job.id for job in store.jobs.list(kind=JobKind.INSPECT).items if job.model_id == model_id)


def test_old_history_is_not_dug_up(store: Store) -> None:
    samples.add_model(store)
    age(store, 8 * 86_400)
    assert store.jobs.reconcile().queued == ()


def test_sweeps_at_once_ask_once(store: Store) -> None:
    for number in range(5):
        samples.add_model(store, f"model {number}")
    age(store)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: store.jobs.reconcile(), range(6)))
    assert len(inspections(store)) == len(set(inspections(store))) == 5

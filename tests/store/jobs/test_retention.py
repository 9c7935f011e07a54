"""Forgetting finished jobs with all that belongs to them, and nothing else."""

import pytest
from sqlalchemy import func, select

from api_schemas.jobs import JobStatus
from store import Store
from store.errors import NotFoundError
from store.jobs import retention
from store.records import BlobRef, IdempotencyKey, JobKind, Outcome
from store.tables import ArtefactRow, EventRow, IdempotencyRow, WebhookRow
from tests.store import samples


def test_finished_jobs_go_with_all_that_is_theirs(store: Store) -> None:
    key = IdempotencyKey("POST /v1/jobs", "k", "f")
    new = samples.new_job(store, webhook_url="https://example.org")
    claim = samples.claim(store, store.jobs.submit(new, key).job.id)
    store.jobs.finish(claim, Outcome(model=BlobRef(samples.digest("m"), 1, "m.onnx")))
    assert store.jobs.expire(3600) == 0
    assert store.jobs.expire(0) == 1
    with pytest.raises(NotFoundError):
        store.jobs.get(claim.job.id)
    with store._database.engine.connect() as connection:
        for table in (ArtefactRow, EventRow, IdempotencyRow, WebhookRow):
            assert connection.scalar(select(func.count()).select_from(table)) == 0
    assert not store.jobs.submit(new, key).replayed


def test_jobs_that_have_not_ended_stay(store: Store) -> None:
    samples.queue(store)
    samples.running(store)
    assert store.jobs.expire(0) == 0
    assert store.jobs.counts()[JobStatus.QUEUED] + store.jobs.counts()[JobStatus.RUNNING] == 2


def test_kinds_may_be_forgotten_apart(store: Store) -> None:
    store.jobs.cancel(samples.queue(store))
    store.jobs.cancel(samples.queue(store, JobKind.INSPECT))
    assert store.jobs.expire(0, kinds=[JobKind.INSPECT, JobKind.PLAN]) == 1
    assert len(store.jobs.list().items) == 1


def test_many_jobs_go_in_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for _ in range(5):
        store.jobs.cancel(samples.queue(store))
    assert store.jobs.expire(0) == 5


def test_keys_past_their_time_go_too(store: Store) -> None:
    store.jobs.submit(samples.new_job(store), IdempotencyKey("r", "k", "f"))
    samples.outdate_keys(store)
    store.jobs.expire(10**9)
    with store._database.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(IdempotencyRow)) == 0

"""The outbox: written with the end of the job, handed to one sender at a time, kept until done."""

import pytest

from api_schemas.jobs import Summary
from store import Store
from store.clock import from_now
from store.database import to_json
from store.errors import StaleClaimError
from store.records import Outcome
from store.tables import WebhookRow
from tests.store import samples

URL = "https://example.org/hook"


def test_a_job_that_ends_leaves_one_delivery(store: Store) -> None:
    claim = samples.running(store, webhook_url=URL)
    assert store.jobs.due_webhooks() == ()
    job = store.jobs.finish(claim, Outcome(summary=Summary(sparsity=0.5)))
    with pytest.raises(StaleClaimError):
        store.jobs.finish(claim, Outcome())
    (delivery,) = store.jobs.due_webhooks()
    assert (delivery.job_id, delivery.url, delivery.attempts) == (job.id, URL, 1)
    assert delivery.payload["type"] == "job.succeeded"
    assert delivery.payload["timestamp"] == delivery.created_at.isoformat()
    data = delivery.payload["data"]
    assert (data["id"], data["status"], data["summary"]["sparsity"], data["error"]) == (
        job.id,
        "succeeded",
        0.5,
        None,
    )


def test_every_way_to_end_is_told(store: Store) -> None:
    store.jobs.cancel(samples.queue(store, webhook_url=URL))
    store.jobs.fail(samples.running(store, webhook_url=URL), samples.ERROR, retry=False)
    lost = samples.running(store, webhook_url=URL, max_attempts=1)
    samples.lapse(store, lost.job.id)
    store.jobs.reconcile()
    told = [(d.payload["type"], d.payload["data"]["error"]["code"]) for d in store.jobs.due_webhooks()]
    assert sorted(told) == [
        ("job.cancelled", "cancelled"),
        ("job.failed", "internal"),
        ("job.failed", "worker_lost"),
    ]


def test_other_changes_and_other_jobs_are_not(store: Store) -> None:
    store.jobs.finish(samples.running(store), Outcome())
    store.jobs.fail(samples.running(store, webhook_url=URL), samples.ERROR, retry=True)
    assert store.jobs.due_webhooks() == ()


def test_a_delivery_has_one_sender_and_keeps_its_id(store: Store) -> None:
    store.jobs.cancel(samples.queue(store, webhook_url=URL))
    (first,) = store.jobs.due_webhooks()
    assert store.jobs.due_webhooks() == ()
    store.jobs.webhook_failed(first.id, retry_in_seconds=3600)
    assert store.jobs.due_webhooks() == ()
    store.jobs.webhook_failed(first.id, retry_in_seconds=0)
    (second,) = store.jobs.due_webhooks()
    assert (second.id, second.payload, second.attempts) == (first.id, first.payload, 2)
    store.jobs.webhook_done(second.id)
    with store._database.engine.begin() as connection:
        connection.execute(WebhookRow.__table__.update().values(due_at=from_now(-1)))  # type: ignore[attr-defined]
    assert store.jobs.due_webhooks() == ()


def test_a_sender_that_dies_only_delays(store: Store) -> None:
    for _ in range(3):
        store.jobs.cancel(samples.queue(store, webhook_url=URL))
    assert len(store.jobs.due_webhooks(limit=2)) == 2
    assert len(store.jobs.due_webhooks(limit=2)) == 1
    with store._database.engine.begin() as connection:
        connection.execute(WebhookRow.__table__.update().values(due_at=from_now(-1)))  # type: ignore[attr-defined]
    assert [delivery.attempts for delivery in store.jobs.due_webhooks(limit=10)] == [2, 2, 2]


def test_payloads_stay_below_twenty_kilobytes(store: Store) -> None:
    metadata = {f"key{i}": "\u2603" * 512 for i in range(32)}
    claim = samples.running(store, webhook_url=URL, metadata=metadata)
    store.jobs.fail(claim, samples.ERROR.model_copy(update={"message": "\u2603" * 100_000}), retry=False)
    (delivery,) = store.jobs.due_webhooks()
    assert len(to_json(delivery.payload)) < 20_000

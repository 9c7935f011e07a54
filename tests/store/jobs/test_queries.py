"""Listing and counting."""

import pytest

from api_schemas.jobs import JobStatus
from store import Store
from store.clock import from_now
from store.records import JobKind
from tests.store import samples


def test_jobs_are_counted_by_status(store: Store) -> None:
    assert store.jobs.counts() == dict.fromkeys(JobStatus, 0)
    samples.queue(store)
    samples.queue(store, JobKind.INSPECT)
    store.jobs.cancel(samples.queue(store))
    expected = {JobStatus.QUEUED: 2, JobStatus.CANCELLED: 1}
    assert store.jobs.counts() == dict.fromkeys(JobStatus, 0) | expected


def test_the_age_of_the_queue_is_that_of_its_oldest_job(store: Store) -> None:
    assert store.jobs.oldest_queued_seconds() is None
    old = samples.queue(store)
    samples.queue(store)
    samples.set_columns(store, old, queued_at=from_now(-500))
    assert 500 <= (store.jobs.oldest_queued_seconds() or 0) < 600
    samples.claim(store, old)
    assert (store.jobs.oldest_queued_seconds() or 0) < 400


def test_listings_choose_by_status_and_kind(store: Store) -> None:
    queued, cancelled = samples.queue(store), samples.queue(store)
    inspection = samples.queue(store, JobKind.INSPECT)
    store.jobs.cancel(cancelled)

    def listed(**choice: object) -> set[str]:
        return {job.id for job in store.jobs.list(**choice).items}  # type: ignore[arg-type]

    assert listed() == {queued, cancelled}
    assert listed(status=JobStatus.QUEUED) == {queued}
    assert listed(kind=JobKind.INSPECT) == {inspection}
    assert listed(kind=None) == {queued, cancelled, inspection}
    assert listed(kind=None, status=JobStatus.SUCCEEDED) == set()


def test_pages_neither_repeat_nor_hide_when_jobs_arrive(store: Store) -> None:
    before = {samples.queue(store) for _ in range(7)}
    seen: list[str] = []
    cursor = None
    while True:
        page = store.jobs.list(limit=2, cursor=cursor)
        seen += [job.id for job in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
        samples.queue(store)
    assert len(seen) == len(set(seen)) == 7
    assert set(seen) == before
    jobs = [store.jobs.get(job_id) for job_id in seen]
    assert jobs == sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)


def test_a_page_that_holds_the_rest_is_the_last(store: Store) -> None:
    for _ in range(4):
        samples.queue(store)
    first = store.jobs.list(limit=2)
    assert store.jobs.list(limit=2, cursor=first.next_cursor).next_cursor is None
    assert store.jobs.list(limit=4).next_cursor is None
    with pytest.raises(ValueError, match="at least one"):
        store.jobs.list(limit=0)

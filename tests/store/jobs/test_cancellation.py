"""Cancelling at each point of a job's life."""

import pytest

from api_schemas.errors import ErrorCode
from api_schemas.jobs import JobStatus
from store import Store
from store.errors import ConflictError, NotFoundError
from store.records import JobKind, Outcome
from tests.store import samples


def test_a_queued_job_is_cancelled_at_once(store: Store) -> None:
    job_id = samples.queue(store)
    job = store.jobs.cancel(job_id)
    assert job == store.jobs.get(job_id)
    assert job.status is JobStatus.CANCELLED and job.finished_at is not None
    assert job.error is not None and job.error.code is ErrorCode.CANCELLED
    assert samples.history(store, job_id) == ["queued", "cancelled"]
    assert store.jobs.claim("w") is None


def test_a_running_job_is_asked_to_stop_as_often_as_one_likes(store: Store) -> None:
    claim = samples.running(store)
    for _ in range(3):
        job = store.jobs.cancel(claim.job.id)
        assert (job.status, job.cancel_requested) == (JobStatus.RUNNING, True)
    assert store.jobs.heartbeat(claim).cancel_requested
    assert store.jobs.cancelled(claim).status is JobStatus.CANCELLED
    assert samples.history(store, claim.job.id) == ["queued", "running", "cancelled"]


def test_an_ended_job_cannot_be_cancelled(store: Store) -> None:
    ends = {
        "succeeded": store.jobs.finish(samples.running(store), Outcome()),
        "failed": store.jobs.fail(samples.running(store), samples.ERROR, retry=False),
        "cancelled": store.jobs.cancel(samples.queue(store)),
    }
    for word, job in ends.items():
        with pytest.raises(ConflictError, match=word):
            store.jobs.cancel(job.id)
        assert store.jobs.get(job.id) == job


def test_an_unknown_job_cannot_be_cancelled(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.jobs.cancel("job_x")


def test_a_cancelled_inspection_is_told_by_the_model(store: Store) -> None:
    job = store.jobs.cancel(samples.queue(store, JobKind.INSPECT))
    assert store.models.get(job.model_id).inspection_error == job.error

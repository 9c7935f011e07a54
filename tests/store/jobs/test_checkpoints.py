"""Checkpoints on job rows: fenced, replaced, forgotten at the end, and attempts that they excuse."""

import pytest

from api_schemas.jobs import JobStatus
from store import Store
from store.errors import StaleClaimError
from store.jobs.checkpoints import MOST_FORGIVEN, may_try_again
from store.records import BlobRef, Claim, Outcome
from tests.store import samples


def blob(name: str) -> BlobRef:
    return BlobRef(samples.digest(name), 2**33, "checkpoint.zip")


def lose(store: Store, claim: Claim) -> JobStatus:
    """The worker of the claim is gone and its lease over."""
    samples.lapse(store, claim.job.id)
    store.jobs.reconcile()
    return store.jobs.get(claim.job.id).status


def test_a_checkpoint_is_kept_for_the_next_claim(store: Store) -> None:
    first = samples.running(store)
    assert first.job.checkpoint is None
    assert store.jobs.save_checkpoint(first, blob("one")) is None
    assert store.jobs.save_checkpoint(first, blob("two")) == blob("one").sha256
    assert store.jobs.save_checkpoint(first, blob("two")) is None
    assert lose(store, first) is JobStatus.QUEUED
    second = samples.claim(store, first.job.id)
    assert second.job.checkpoint == blob("two")
    assert second.job.checkpoint_at is not None and second.job.started_at is not None
    assert second.job.checkpoint_at <= second.job.started_at
    assert store.jobs.save_checkpoint(second, blob("three")) == blob("two").sha256


def test_a_checkpoint_of_a_lost_claim_is_refused(store: Store) -> None:
    first = samples.running(store)
    store.jobs.save_checkpoint(first, blob("one"))
    samples.lapse(store, first.job.id)
    with pytest.raises(StaleClaimError):
        store.jobs.save_checkpoint(first, blob("late"))
    store.jobs.reconcile()
    second = samples.claim(store, first.job.id)
    with pytest.raises(StaleClaimError):
        store.jobs.save_checkpoint(first, blob("late"))
    assert store.jobs.get(first.job.id).checkpoint == blob("one")
    store.jobs.finish(second, Outcome())
    with pytest.raises(StaleClaimError):
        store.jobs.save_checkpoint(second, blob("late"))


@pytest.mark.parametrize(
    "end", ["finish", "fail", "cancelled", "lost and cancelled", "released and cancelled"]
)
def test_an_ended_job_has_no_checkpoint(store: Store, end: str) -> None:
    claim = samples.running(store)
    jobs, job_id = store.jobs, claim.job.id
    jobs.save_checkpoint(claim, blob("one"))
    match end:
        case "finish":
            jobs.finish(claim, Outcome())
        case "fail":
            jobs.fail(claim, samples.ERROR, retry=False)
        case "cancelled":
            jobs.cancelled(claim)
        case "lost and cancelled":
            jobs.cancel(job_id)
            jobs.release(claim)
        case "released and cancelled":
            jobs.release(claim)
            assert jobs.get(job_id).checkpoint == blob("one")
            jobs.cancel(job_id)
    ended = jobs.get(job_id)
    assert ended.status.finished and ended.checkpoint is None and ended.checkpoint_at is None


@pytest.mark.parametrize("by", ["lease", "failure"])
def test_attempts_that_came_further_are_not_held_against_the_job(store: Store, by: str) -> None:
    job_id = samples.queue(store, max_attempts=2)

    def attempt(*saved: str) -> JobStatus:
        claim = samples.claim(store, job_id)
        for name in saved:
            store.jobs.save_checkpoint(claim, blob(name))
        if by == "lease":
            return lose(store, claim)
        return store.jobs.fail(claim, samples.ERROR, retry=True).status

    for number in range(5):
        assert attempt(f"{number} a", f"{number} b") is JobStatus.QUEUED
    assert attempt() is JobStatus.QUEUED
    assert attempt("once more") is JobStatus.QUEUED
    assert attempt() is JobStatus.FAILED
    assert store.jobs.get(job_id).attempts == 8


def test_a_released_attempt_is_neither_counted_nor_forgiven(store: Store) -> None:
    job_id = samples.queue(store, max_attempts=1)
    for number in range(3):
        claim = samples.claim(store, job_id)
        store.jobs.save_checkpoint(claim, blob(str(number)))
        store.jobs.release(claim)
    assert store.jobs.get(job_id).attempts == 0
    assert lose(store, samples.claim(store, job_id)) is JobStatus.FAILED


def test_there_is_an_end_even_for_a_job_that_always_comes_a_little_further() -> None:
    attempts = 1
    while may_try_again(attempts, attempts, max_attempts=3):
        attempts += 1
    assert attempts == MOST_FORGIVEN + 3


def test_a_lost_answer_to_the_commit_does_not_lose_the_checkpoint(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.orm import Session

    claim = samples.running(store)
    commit = Session.commit

    def commit_and_hang_up(self: Session) -> None:
        commit(self)
        raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(Session, "commit", commit_and_hang_up)
    assert store.jobs.save_checkpoint(claim, blob("one")) is None
    monkeypatch.undo()
    assert store.jobs.get(claim.job.id).checkpoint == blob("one")

"""Forgetting finished jobs and used-up idempotency keys."""

from collections.abc import Collection

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus
from store.clock import from_now, now
from store.records import JobKind
from store.tables import IdempotencyRow, JobRow

_FINISHED = tuple(status for status in JobStatus if status.finished)

#: Jobs per transaction.
BATCH = 200


def expire(session: Session, older_than_seconds: float, kinds: Collection[JobKind] | None) -> int:
    """Delete one batch of jobs that finished before then, with their events, blobs' names and webhooks."""
    old = select(JobRow.id).where(
        JobRow.status.in_(_FINISHED), JobRow.finished_at <= from_now(-older_than_seconds)
    )
    if kinds is not None:
        old = old.where(JobRow.kind.in_(tuple(kinds)))
    ids = tuple(session.scalars(old.limit(BATCH).with_for_update(skip_locked=True)))
    if ids:
        unsynchronised = {"synchronize_session": False}
        keys = delete(IdempotencyRow).where(IdempotencyRow.job_id.in_(ids))
        session.execute(keys, execution_options=unsynchronised)
        session.execute(delete(JobRow).where(JobRow.id.in_(ids)), execution_options=unsynchronised)
    return len(ids)


def expire_keys(session: Session) -> None:
    """Delete the idempotency keys whose time is over."""
    session.execute(delete(IdempotencyRow).where(IdempotencyRow.expires_at <= now()))

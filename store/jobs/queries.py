"""Questions about jobs that change nothing."""

from sqlalchemy import BigInteger, func, select, type_coerce
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus
from store.clock import now
from store.cursors import page
from store.jobs import rows
from store.records import JobKind, JobRecord, Slice
from store.tables import JobRow


def listing(
    session: Session, status: JobStatus | None, kind: JobKind | None, limit: int, cursor: str | None
) -> Slice[JobRecord]:
    """A page of jobs, newest first."""
    statement = select(JobRow)
    if status is not None:
        statement = statement.where(JobRow.status == status)
    if kind is not None:
        statement = statement.where(JobRow.kind == kind)
    return page(session, statement, (JobRow.created_at, JobRow.id), rows.to_record, limit, cursor)


def counts(session: Session) -> dict[JobStatus, int]:
    """Jobs of every kind by status; statuses without jobs are 0."""
    found = session.execute(select(JobRow.status, func.count()).group_by(JobRow.status))
    return dict.fromkeys(JobStatus, 0) | dict(found.all())


def oldest_queued_seconds(session: Session) -> float | None:
    """How long the longest waiting job has waited, None when none waits."""
    waited = type_coerce(now(), BigInteger) - type_coerce(func.min(JobRow.queued_at), BigInteger)
    micros = session.scalar(select(waited).where(JobRow.status == JobStatus.QUEUED))
    return None if micros is None else max(0.0, micros / 1_000_000)

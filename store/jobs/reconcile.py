"""The sweep that any number of processes may run at once: jobs whose lease has ended, bells not heard.

Rows that another sweep or a worker holds are skipped; each is dealt with by exactly one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api_schemas.errors import ErrorCode, JobError
from api_schemas.jobs import JobStatus
from store.clock import from_now, now
from store.jobs.changes import CANCELLED, Values, change, ended, requeued
from store.jobs.checkpoints import may_try_again
from store.jobs.inspections import queue_missing
from store.records import JobRecord, Reconciled
from store.tables import JobRow

#: Rows per sweep, so that a transaction stays short; the next sweep takes the rest.
_BATCH = 100


def reconcile(session: Session, sweep_seconds: float, max_attempts: int) -> Reconciled:
    """Requeue or end the jobs whose lease has ended, and say which bells to ring again.

    Inspections that were never queued are queued here, with as many attempts as are given.
    """
    inspections = queue_missing(session, max_attempts)
    ends = [_recover(session, expired) for expired in _expired(session)]
    return Reconciled(
        requeued=tuple(job.id for job in ends if job.status is JobStatus.QUEUED),
        failed=tuple(job.id for job in ends if job.status is JobStatus.FAILED),
        cancelled=tuple(job.id for job in ends if job.status is JobStatus.CANCELLED),
        queued=(*inspections, *_unheard(session, sweep_seconds)),
    )


@final
@dataclass(frozen=True)
class _Expired:
    job_id: str
    attempts: int
    advances: int
    max_attempts: int
    cancel_requested: bool


def _expired(session: Session) -> Sequence[_Expired]:
    statement = (
        select(JobRow.id, JobRow.attempts, JobRow.advances, JobRow.max_attempts, JobRow.cancel_requested)
        .where(JobRow.status == JobStatus.RUNNING, JobRow.lease_until <= now())
        .order_by(JobRow.lease_until)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    return [_Expired(*row) for row in session.execute(statement)]


def _recover(session: Session, found: _Expired) -> JobRecord:
    """The row is locked, so it is still as it was read."""
    lost = _lost(found.attempts)
    values: Values
    if found.cancel_requested:
        values = ended(JobStatus.CANCELLED, CANCELLED)
    elif may_try_again(found.attempts, found.advances, found.max_attempts):
        values = requeued()
    else:
        values = ended(JobStatus.FAILED, lost)
    job = change(session, (JobRow.id == found.job_id,), values, cause=lost)
    assert job is not None  # noqa: S101  locked rows do not go away
    return job


def _lost(attempts: int) -> JobError:
    tries = "its only attempt" if attempts == 1 else f"attempt {attempts}"
    message = f"The worker stopped answering during {tries}."
    hint = "The file may have crashed it, or the machine was stopped; see the worker's log."
    return JobError(code=ErrorCode.WORKER_LOST, message=message, hint=hint)


def _unheard(session: Session, sweep_seconds: float) -> tuple[str, ...]:
    """Queued jobs not rung for a sweep: noted as rung now, so that other sweeps leave them alone."""
    waiting = (
        select(JobRow.id)
        .where(JobRow.status == JobStatus.QUEUED, JobRow.rung_at <= from_now(-sweep_seconds))
        .order_by(JobRow.priority, JobRow.created_at, JobRow.id)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
    )
    ids = tuple(session.scalars(waiting))
    if ids:
        rung = update(JobRow).where(JobRow.id.in_(ids)).values(rung_at=now())
        session.execute(rung.execution_options(synchronize_session=False))
    return ids

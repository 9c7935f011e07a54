"""The one way a job's status changes: a conditional UPDATE, and in the same transaction all that follows.

That is its numbered STATUS event, the webhook in the outbox, and what an inspection says of its model.
"""

from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, case, insert, literal, null, select, update
from sqlalchemy.orm import Session

from api_schemas.errors import ERRORS, ErrorCode, JobError
from api_schemas.events import EventType
from api_schemas.jobs import JobStatus
from store.clock import now
from store.database import serialise
from store.errors import StaleClaimError
from store.jobs import rows
from store.records import Claim, JobKind, JobRecord
from store.tables import EventRow, JobRow, ModelRow, WebhookRow

CANCELLED = JobError(code=ErrorCode.CANCELLED, message=ERRORS[ErrorCode.CANCELLED][2])

Values = dict[str, Any]

_MOST_MESSAGE = 2000
#: What a job that has ended knows of its checkpoints; their files go with the next collection.
_NO_CHECKPOINT: Values = dict.fromkeys(
    ("checkpoint_sha256", "checkpoint_bytes", "checkpoint_at", "checkpoint_token")
)


def fence(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """The conditions under which the holder of a claim may write."""
    return (
        JobRow.id == claim.job.id,
        JobRow.token == claim.token,
        JobRow.status == JobStatus.RUNNING,
        JobRow.lease_until > now(),
    )


def stale(claim: Claim) -> StaleClaimError:
    """The refusal of a write whose fence did not hold."""
    return StaleClaimError(
        f"The lease of {claim.worker} on job {claim.job.id} has ended; nothing was written."
    )


def change(
    session: Session,
    where: tuple[ColumnElement[bool], ...],
    values: Values,
    cause: JobError | None = None,
) -> JobRecord | None:
    """Set `values` on the one job that meets `where`, and write what follows. None when no job does.

    `cause` goes into the event of a job that is queued again.
    """
    statement = (
        update(JobRow)
        .where(*where)
        .values(**values, event_count=JobRow.event_count + 1)
        .returning(JobRow.id, JobRow.event_count)
        .execution_options(synchronize_session=False)
    )
    changed = session.execute(statement).first()
    if changed is None:
        return None
    job = rows.get(session, changed.id)
    _append_status(session, job, changed.event_count, cause)
    if job.status.finished:
        _enqueue_webhook(session, job)
        _note_failed_inspection(session, job)
    return job


def ended(status: JobStatus, error: JobError | None = None) -> Values:
    """The values of a job that has come to its end."""
    return {
        "status": status,
        "error": None if error is None else error.model_dump(mode="json"),
        "finished_at": now(),
        "lease_until": None,
        **_NO_CHECKPOINT,
    }


def requeued() -> Values:
    """The values of a job that is to run again, or is cancelled if that was asked for meanwhile."""
    asked = JobRow.cancel_requested
    cancelled = literal(CANCELLED.model_dump(mode="json"), JobRow.error.type)
    return {
        "status": case((asked, JobStatus.CANCELLED), else_=literal(JobStatus.QUEUED, JobRow.status.type)),
        "error": case((asked, cancelled), else_=null()),
        "finished_at": case((asked, now()), else_=null()),
        "lease_until": None,
        "started_at": case((asked, JobRow.started_at), else_=null()),
        "stage": None,
        "progress": None,
        "queued_at": now(),
        "rung_at": now(),
        **{name: case((asked, null()), else_=getattr(JobRow, name)) for name in _NO_CHECKPOINT},
    }


def _append_status(session: Session, job: JobRecord, number: int, cause: JobError | None) -> None:
    data: Values = {"status": job.status.value}
    if job.status is JobStatus.RUNNING:
        data["attempt"] = job.attempts
    if (error := job.error or cause) is not None:
        data["error"] = error.model_dump(mode="json")
    event = insert(EventRow).values(job_id=job.id, number=number, type=EventType.STATUS, at=now(), data=data)
    session.execute(event)


def _enqueue_webhook(session: Session, job: JobRecord) -> None:
    if job.webhook_url is None:
        return
    error = job.error
    if error is not None:
        error = error.model_copy(update={"message": error.message[:_MOST_MESSAGE]})
    # Standard Webhooks asks for less than 20 kB, so the user's metadata stays out of it.
    data = {
        "id": job.id,
        "status": job.status.value,
        "model_id": job.model_id,
        "error": None if error is None else error.model_dump(mode="json"),
        "summary": None if job.summary is None else job.summary.model_dump(mode="json"),
    }
    moment = session.scalar(select(now()))
    assert moment is not None  # noqa: S101  a SELECT without FROM has one row
    payload = {"type": f"job.{job.status.value}", "timestamp": moment.isoformat(), "data": data}
    row = {"id": f"msg_{uuid4().hex}", "job_id": job.id, "url": job.webhook_url, "payload": payload}
    session.execute(insert(WebhookRow).values(**row, created_at=moment, due_at=moment))


def _note_failed_inspection(session: Session, job: JobRecord) -> None:
    """Every model with the same bytes shares the error, unless one of them was inspected before."""
    if job.kind is not JobKind.INSPECT or job.error is None:
        return
    note_inspection(session, job, {"inspection_error": job.error.model_dump(mode="json")})


def note_inspection(session: Session, job: JobRecord, values: Values) -> None:
    """Write the end of an inspection on every model with the same bytes that has none."""
    sha256 = session.scalar(select(ModelRow.sha256).where(ModelRow.id == job.model_id))
    if sha256 is None:
        return
    serialise(session, sha256)  # a model with these bytes may be about to be added
    statement = update(ModelRow).where(ModelRow.sha256 == sha256, ModelRow.inspection.is_(None))
    session.execute(statement.values(values).execution_options(synchronize_session=False))

"""Cancelling: at once while the job is queued, by a flag that its supervisor sees while it runs."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus
from store.errors import ConflictError, NotFoundError
from store.jobs import rows
from store.jobs.changes import CANCELLED, change, ended
from store.records import JobRecord
from store.tables import JobRow


def cancel(session: Session, job_id: str) -> JobRecord:
    """Cancel, or ask for it. The row lock keeps claims and ends out between the look and the change."""
    status = session.scalar(select(JobRow.status).where(JobRow.id == job_id).with_for_update())
    if status is None:
        raise NotFoundError(f"There is no job {job_id}.")
    if status.finished:
        raise ConflictError(f"Job {job_id} has already {_ENDINGS[status]}.")
    if status is JobStatus.QUEUED:
        change(session, (JobRow.id == job_id,), {**ended(JobStatus.CANCELLED, CANCELLED)})
    else:
        asked = update(JobRow).where(JobRow.id == job_id).values(cancel_requested=True)
        session.execute(asked.execution_options(synchronize_session=False))
    return rows.get(session, job_id)


def landed(session: Session, job_id: str) -> JobRecord | None:
    """The job if a cancellation of it was committed."""
    job = rows.find(session, job_id)
    return job if job is not None and (job.cancel_requested or job.status is JobStatus.CANCELLED) else None


_ENDINGS = {
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "been cancelled",
}

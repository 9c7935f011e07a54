"""Claims: taking a job under a lease, keeping the lease, and ending the attempt one way or another.

Every write is one statement conditional on (id, token, running, lease not ended); see `changes.fence`.
"""

from collections.abc import Collection

from sqlalchemy import ColumnElement, Select, case, insert, select, update
from sqlalchemy.orm import Session

from api_schemas.errors import JobError
from api_schemas.jobs import JobStatus
from store.clock import from_now, now
from store.jobs import rows
from store.jobs.changes import CANCELLED, Values, change, ended, fence, note_inspection, requeued, stale
from store.jobs.checkpoints import may_try_again
from store.records import Beat, BlobRef, Claim, JobKind, JobRecord, Outcome
from store.tables import ArtefactRow, JobRow


def claim(
    session: Session,
    worker: str,
    nonce: str,
    lease_seconds: float,
    job_id: str | None = None,
    kinds: Collection[JobKind] | None = None,
) -> Claim | None:
    """Take the oldest queued job that fits; the lease is set by the same statement."""
    candidate = _candidate(job_id, kinds).scalar_subquery()
    values: Values = {
        "status": JobStatus.RUNNING,
        "worker": worker,
        "claim_nonce": nonce,
        "token": JobRow.token + 1,
        "attempts": JobRow.attempts + 1,
        "started_at": now(),
        "lease_until": from_now(lease_seconds),
    }
    job = change(session, (JobRow.id == candidate, JobRow.status == JobStatus.QUEUED), values)
    return None if job is None else _claim_of(session, job)


def claimed(session: Session, nonce: str) -> Claim | None:
    """The claim made under that nonce, if it was committed and still holds."""
    row = session.scalars(
        select(JobRow).where(JobRow.claim_nonce == nonce, JobRow.status == JobStatus.RUNNING)
    ).first()
    return None if row is None else _claim_of(session, rows.to_record(row))


def heartbeat(session: Session, claim: Claim, lease_seconds: float) -> Beat:
    """Extend the lease from now on."""
    statement = (
        update(JobRow)
        .where(*fence(claim))
        .values(lease_until=from_now(lease_seconds))
        .returning(JobRow.cancel_requested)
        .execution_options(synchronize_session=False)
    )
    cancel_requested = session.scalar(statement)
    if cancel_requested is None:
        raise stale(claim)
    return Beat(cancel_requested)


def finish(session: Session, claim: Claim, outcome: Outcome) -> JobRecord:
    """Publish the outcome: the job has succeeded."""
    values = ended(JobStatus.SUCCEEDED)
    if outcome.summary is not None:
        values["summary"] = outcome.summary.model_dump(mode="json")
    if outcome.plan is not None:
        values["plan"] = dict(outcome.plan)
    job = change(session, fence(claim), values)
    if job is None:
        raise stale(claim)
    _add_artefacts(session, job.id, outcome)
    if outcome.inspection is not None and job.kind is JobKind.INSPECT:
        inspection = outcome.inspection.model_dump(mode="json")
        note_inspection(session, job, {"inspection": inspection, "inspection_error": None})
    return rows.get(session, job.id)


def fail(session: Session, claim: Claim, error: JobError, *, retry: bool) -> JobRecord:
    """End the attempt with an error; queue the job again if asked to and attempts are left.

    An attempt that saved a checkpoint is not held against the job; see `checkpoints.may_try_again`.
    """
    again = retry and _may_try_again(session, claim)
    values = requeued() if again else ended(JobStatus.FAILED, error)
    job = change(session, fence(claim), values, cause=error)
    if job is None:
        raise stale(claim)
    return job


def cancelled(session: Session, claim: Claim) -> JobRecord:
    """End the job because it was asked to be cancelled."""
    job = change(session, fence(claim), ended(JobStatus.CANCELLED, CANCELLED))
    if job is None:
        raise stale(claim)
    return job


def release(session: Session, claim: Claim) -> JobRecord:
    """Give the job back as if it had not been claimed; what it has saved stays."""
    saved = JobRow.checkpoint_token == claim.token
    uncounted: Values = {
        "attempts": JobRow.attempts - 1,
        "advances": case((saved, JobRow.advances - 1), else_=JobRow.advances),
    }
    job = change(session, fence(claim), {**requeued(), **uncounted})
    if job is None:
        raise stale(claim)
    return job


def _may_try_again(session: Session, claim: Claim) -> bool:
    advances = session.scalar(select(JobRow.advances).where(JobRow.id == claim.job.id)) or 0
    return may_try_again(claim.job.attempts, advances, claim.job.max_attempts)


def settled(session: Session, claim: Claim) -> JobRecord | None:
    """The job if this claim's attempt was ended, read after the answer to a commit was lost.

    The token is the claim's own until someone claims the job again, which needs it to be queued first;
    so any other status under the same token means that the attempt's end was committed.
    """
    row = session.scalars(select(JobRow).where(JobRow.id == claim.job.id)).first()
    if row is None or (row.token == claim.token and row.status is JobStatus.RUNNING):
        return None
    return rows.to_record(row)


def _candidate(job_id: str | None, kinds: Collection[JobKind] | None) -> Select[str]:
    conditions: list[ColumnElement[bool]] = [JobRow.status == JobStatus.QUEUED]
    if job_id is not None:
        conditions.append(JobRow.id == job_id)
    if kinds is not None:
        conditions.append(JobRow.kind.in_(tuple(kinds)))
    return (
        select(JobRow.id)
        .where(*conditions)
        .order_by(JobRow.priority, JobRow.created_at, JobRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def _claim_of(session: Session, job: JobRecord) -> Claim:
    token, worker = session.execute(select(JobRow.token, JobRow.worker).where(JobRow.id == job.id)).one()
    return Claim(job=job, token=token, worker=worker or "")


def _add_artefacts(session: Session, job_id: str, outcome: Outcome) -> None:
    for role in ("model", "report", "page"):
        blob: BlobRef | None = getattr(outcome, role)
        if blob is None:
            continue
        row = {"sha256": blob.sha256, "size_bytes": blob.size_bytes, "filename": blob.filename}
        session.execute(insert(ArtefactRow).values(job_id=job_id, role=role, **row))

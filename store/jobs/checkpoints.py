"""Checkpoints: what the row of a running job knows of the file that its next attempt goes on from."""

from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from store.clock import now
from store.jobs.changes import Values, fence, stale
from store.records import BlobRef, Claim
from store.tables import JobRow

#: Attempts that came further than the one before are forgiven their end, up to so many: a job that kills
#: its worker after each checkpoint would never end otherwise.
MOST_FORGIVEN: Final = 20


def may_try_again(attempts: int, advances: int, max_attempts: int) -> bool:
    """Whether a job whose attempt was lost is queued again: it is, while those that saved nothing are few."""
    return attempts - min(advances, MOST_FORGIVEN) < max_attempts


def save(session: Session, claim: Claim, blob: BlobRef) -> str | None:
    """Name the new checkpoint; gives the digest of the one that it replaces, None if there was none."""
    before = session.execute(
        select(JobRow.checkpoint_sha256, JobRow.checkpoint_token).where(*fence(claim)).with_for_update()
    ).first()
    if before is None:
        raise stale(claim)
    values: Values = {
        "checkpoint_sha256": blob.sha256,
        "checkpoint_bytes": blob.size_bytes,
        "checkpoint_at": now(),
        "checkpoint_token": claim.token,
    }
    if before.checkpoint_token != claim.token:
        values["advances"] = JobRow.advances + 1
    named = update(JobRow).where(JobRow.id == claim.job.id).values(values)
    session.execute(named.execution_options(synchronize_session=False))
    replaced: str | None = before.checkpoint_sha256
    return None if replaced == blob.sha256 else replaced


def landed(session: Session, claim: Claim, blob: BlobRef) -> tuple[str | None] | None:
    """An answer if the row names the blob. What it replaced is not known any more: the sweep finds it."""
    sha256 = session.scalar(select(JobRow.checkpoint_sha256).where(JobRow.id == claim.job.id))
    return (None,) if sha256 == blob.sha256 else None

"""Inspections that nobody queued: of models whose API process ended between storing them and asking."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from api_schemas.ids import new_job_id
from store.clock import from_now
from store.database import serialise
from store.jobs import submission
from store.records import JobKind, NewJob
from store.tables import JobRow, ModelRow

#: An API process asks within milliseconds, and what it left undone for a week nobody waits for.
_SETTLED_SECONDS: Final = 60.0
_LOOKED_BACK_SECONDS: Final = 7 * 86_400.0
_BATCH: Final = 20


def queue_missing(
    session: Session, max_attempts: int, settled_seconds: float = _SETTLED_SECONDS
) -> tuple[str, ...]:
    """Queue an inspection for each model that has none, and no job for one; gives the ids of the jobs."""
    if not _uninspected(session, settled_seconds):
        return ()
    serialise(session, "missing inspections")  # of two sweeps that found the same, the second looks again
    return tuple(
        submission.submit(
            session, new_job_id(), NewJob(JobKind.INSPECT, model_id, max_attempts=max_attempts), None, 0
        ).job.id
        for model_id in _uninspected(session, settled_seconds)
    )


def _uninspected(session: Session, settled_seconds: float) -> Sequence[str]:
    asked = exists().where(JobRow.model_id == ModelRow.id, JobRow.kind == JobKind.INSPECT)
    statement = select(ModelRow.id).where(
        ModelRow.created_at <= from_now(-settled_seconds),
        ModelRow.created_at >= from_now(-_LOOKED_BACK_SECONDS),
        ModelRow.inspection.is_(None),
        ModelRow.inspection_error.is_(None),
        ~asked,
    )
    return session.scalars(statement.order_by(ModelRow.created_at).limit(_BATCH)).all()

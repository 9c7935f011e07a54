"""Job rows to records."""

from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.errors import JobError
from api_schemas.jobs import InputSpecs, Progress, Summary
from api_schemas.recipe import Recipe
from store.errors import NotFoundError
from store.records import BlobRef, JobRecord
from store.tables import JobRow

_INPUTS: TypeAdapter[InputSpecs] = TypeAdapter(InputSpecs)


def to_record(row: JobRow) -> JobRecord:
    """The row, detached."""
    artefacts = {a.role: BlobRef(a.sha256, a.size_bytes, a.filename) for a in row.artefacts}
    return JobRecord(
        id=row.id,
        kind=row.kind,
        status=row.status,
        model_id=row.model_id,
        dataset_id=row.dataset_id,
        recipe=None if row.recipe is None else Recipe.model_validate(row.recipe),
        inputs=_INPUTS.validate_python(row.inputs),
        metadata=row.user_metadata,
        webhook_url=row.webhook_url,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        created_at=row.created_at,
        stage=row.stage,
        progress=Progress() if row.progress is None else Progress.model_validate(row.progress),
        started_at=row.started_at,
        finished_at=row.finished_at,
        cancel_requested=row.cancel_requested,
        error=None if row.error is None else JobError.model_validate(row.error),
        summary=None if row.summary is None else Summary.model_validate(row.summary),
        model=artefacts.get("model"),
        report=artefacts.get("report"),
        page=artefacts.get("page"),
        plan=row.plan,
        checkpoint=_checkpoint(row),
        checkpoint_at=row.checkpoint_at,
    )


def _checkpoint(row: JobRow) -> BlobRef | None:
    if row.checkpoint_sha256 is None:
        return None
    return BlobRef(row.checkpoint_sha256, row.checkpoint_bytes or 0, "checkpoint.zip")


def dump_inputs(inputs: InputSpecs) -> Any:
    """Input shapes as JSON values."""
    return _INPUTS.dump_python(inputs, mode="json")


def find(session: Session, job_id: str) -> JobRecord | None:
    """The job as it stands in the database now, or None."""
    statement = select(JobRow).where(JobRow.id == job_id).execution_options(populate_existing=True)
    row = session.scalars(statement).first()
    return None if row is None else to_record(row)


def get(session: Session, job_id: str) -> JobRecord:
    """The job. Raises `NotFoundError`."""
    found = find(session, job_id)
    if found is None:
        raise NotFoundError(f"There is no job {job_id}.")
    return found

"""Uploaded models. Equal files share one inspection."""

from typing import final

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from api_schemas.errors import JobError
from api_schemas.jobs import JobStatus
from api_schemas.models import Inspection
from store.clock import now
from store.cursors import page
from store.database import Database, serialise
from store.errors import ConflictError, NotFoundError
from store.records import ModelRecord, Slice
from store.tables import JobRow, ModelRow


@final
class ModelStore:
    """Rows of uploaded models; their bytes are in the blob store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, model: ModelRecord) -> ModelRecord:
        """Keep a model whose blob is published. `created_at` becomes the database's time.

        Returns it with the inspection of an equal file, if one was inspected before.
        Raises `ConflictError` when the id is taken.
        """
        return self._database.write(
            lambda session: _add(session, model), landed=lambda session: _find(session, model.id)
        )

    def get(self, model_id: str) -> ModelRecord:
        """The model. Raises `NotFoundError`."""
        return self._database.read(lambda session: _get(session, model_id))

    def list(self, limit: int = 50, cursor: str | None = None) -> Slice[ModelRecord]:
        """A page, newest first. Raises `ValueError` for a bad cursor."""
        key = (ModelRow.created_at, ModelRow.id)
        return self._database.read(
            lambda session: page(session, select(ModelRow), key, to_record, limit, cursor)
        )

    def delete(self, model_id: str) -> None:
        """Forget the model; its bytes go with the next garbage collection.

        Raises `NotFoundError`, or `ConflictError` while a queued or running job uses it.
        """
        self._database.write(lambda session: _delete(session, model_id))


def to_record(row: ModelRow) -> ModelRecord:
    """The row, detached."""
    return ModelRecord(
        id=row.id,
        sha256=row.sha256,
        format=row.format,
        filename=row.filename,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        inspection=None if row.inspection is None else Inspection.model_validate(row.inspection),
        inspection_error=None
        if row.inspection_error is None
        else JobError.model_validate(row.inspection_error),
    )


def _find(session: Session, model_id: str) -> ModelRecord | None:
    row = session.get(ModelRow, model_id)
    return None if row is None else to_record(row)


def _get(session: Session, model_id: str) -> ModelRecord:
    found = _find(session, model_id)
    if found is None:
        raise NotFoundError(f"There is no model {model_id}.")
    return found


def _add(session: Session, model: ModelRecord) -> ModelRecord:
    if _find(session, model.id) is not None:
        raise ConflictError(f"There is a model {model.id} already.")
    serialise(session, model.sha256)  # an inspection of this file may be about to be committed
    inspected = select(ModelRow.inspection).where(
        ModelRow.sha256 == model.sha256, ModelRow.inspection.is_not(None)
    )
    inspection = session.scalars(inspected.limit(1)).first()
    if model.inspection is not None:
        inspection = model.inspection.model_dump(mode="json")
    values = {
        "id": model.id,
        "sha256": model.sha256,
        "format": model.format,
        "filename": model.filename,
        "size_bytes": model.size_bytes,
        "created_at": now(),
        "inspection": inspection,
    }
    session.execute(insert(ModelRow).values(values))
    return _get(session, model.id)


def _delete(session: Session, model_id: str) -> None:
    # The row lock makes a submission that names this model wait, or be seen here.
    locked = select(ModelRow.id).where(ModelRow.id == model_id).with_for_update()
    if session.scalar(locked) is None:
        raise NotFoundError(f"There is no model {model_id}.")
    busy = select(JobRow.id).where(
        JobRow.model_id == model_id, JobRow.status.in_((JobStatus.QUEUED, JobStatus.RUNNING))
    )
    if (job_id := session.scalars(busy.limit(1)).first()) is not None:
        raise ConflictError(f"Job {job_id} is using model {model_id}; cancel it or wait for its end.")
    session.execute(delete(ModelRow).where(ModelRow.id == model_id))

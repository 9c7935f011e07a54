"""Uploaded datasets."""

from typing import final

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from api_schemas.datasets import ArrayInfo
from api_schemas.jobs import JobStatus
from store.clock import now
from store.cursors import page
from store.database import Database
from store.errors import ConflictError, NotFoundError
from store.records import DatasetRecord, Slice
from store.tables import DatasetRow, JobRow


@final
class DatasetStore:
    """Rows of uploaded datasets; their bytes are in the blob store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, dataset: DatasetRecord) -> DatasetRecord:
        """Keep a dataset whose blob is published. `created_at` becomes the database's time.

        Raises `ConflictError` when the id is taken.
        """
        return self._database.write(
            lambda session: _add(session, dataset), landed=lambda session: _find(session, dataset.id)
        )

    def get(self, dataset_id: str) -> DatasetRecord:
        """The dataset. Raises `NotFoundError`."""
        return self._database.read(lambda session: _get(session, dataset_id))

    def list(self, limit: int = 50, cursor: str | None = None) -> Slice[DatasetRecord]:
        """A page, newest first. Raises `ValueError` for a bad cursor."""
        key = (DatasetRow.created_at, DatasetRow.id)
        return self._database.read(
            lambda session: page(session, select(DatasetRow), key, to_record, limit, cursor)
        )

    def delete(self, dataset_id: str) -> None:
        """Forget the dataset; its bytes go with the next garbage collection.

        Raises `NotFoundError`, or `ConflictError` while a queued or running job uses it.
        """
        self._database.write(lambda session: _delete(session, dataset_id))


def to_record(row: DatasetRow) -> DatasetRecord:
    """The row, detached."""
    return DatasetRecord(
        id=row.id,
        sha256=row.sha256,
        format=row.format,
        filename=row.filename,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        arrays=tuple(ArrayInfo.model_validate(array) for array in row.arrays),
        rows=row.rows,
        has_targets=row.has_targets,
    )


def _find(session: Session, dataset_id: str) -> DatasetRecord | None:
    row = session.get(DatasetRow, dataset_id)
    return None if row is None else to_record(row)


def _get(session: Session, dataset_id: str) -> DatasetRecord:
    found = _find(session, dataset_id)
    if found is None:
        raise NotFoundError(f"There is no dataset {dataset_id}.")
    return found


def _add(session: Session, dataset: DatasetRecord) -> DatasetRecord:
    if _find(session, dataset.id) is not None:
        raise ConflictError(f"There is a dataset {dataset.id} already.")
    values = {
        "id": dataset.id,
        "sha256": dataset.sha256,
        "format": dataset.format,
        "filename": dataset.filename,
        "size_bytes": dataset.size_bytes,
        "created_at": now(),
        "arrays": [array.model_dump(mode="json") for array in dataset.arrays],
        "rows": dataset.rows,
        "has_targets": dataset.has_targets,
    }
    session.execute(insert(DatasetRow).values(values))
    return _get(session, dataset.id)


def _delete(session: Session, dataset_id: str) -> None:
    # The row lock makes a submission that names this dataset wait, or be seen here.
    locked = select(DatasetRow.id).where(DatasetRow.id == dataset_id).with_for_update()
    if session.scalar(locked) is None:
        raise NotFoundError(f"There is no dataset {dataset_id}.")
    busy = select(JobRow.id).where(
        JobRow.dataset_id == dataset_id, JobRow.status.in_((JobStatus.QUEUED, JobStatus.RUNNING))
    )
    if (job_id := session.scalars(busy.limit(1)).first()) is not None:
        raise ConflictError(f"Job {job_id} is using dataset {dataset_id}; cancel it or wait for its end.")
    session.execute(delete(DatasetRow).where(DatasetRow.id == dataset_id))

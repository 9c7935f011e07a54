"""Submitting: the job row, its first event and its idempotency key are one transaction."""

from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from api_schemas.events import EventType
from api_schemas.jobs import JobStatus
from store.clock import from_now, now
from store.errors import IdempotencyMismatchError, NotFoundError
from store.jobs import rows
from store.records import IdempotencyKey, JobKind, JobRecord, NewJob, Submission
from store.tables import DatasetRow, EventRow, IdempotencyRow, JobRow, ModelRow

#: A user waits for these, and they are short.
_PRIORITY = {JobKind.INSPECT: 0, JobKind.PLAN: 0, JobKind.PRUNE: 1}


def submit(
    session: Session, job_id: str, new: NewJob, idempotency: IdempotencyKey | None, key_seconds: float
) -> Submission:
    """Queue the job, or find the one that this key made before."""
    if idempotency is not None and not _take_key(session, job_id, idempotency, key_seconds):
        earlier = replay(session, idempotency)
        if earlier is None:  # pragma: no cover - the key's row was locked against removal by our insert
            raise NotFoundError("The job of this idempotency key is gone.")
        return Submission(earlier, replayed=True)
    _hold_files(session, new)
    session.execute(insert(JobRow).values(_values(job_id, new)))
    first = {"job_id": job_id, "number": 1, "type": EventType.STATUS, "at": now()}
    session.execute(insert(EventRow).values(**first, data={"status": JobStatus.QUEUED.value}))
    return Submission(rows.get(session, job_id), replayed=False)


def replay(session: Session, idempotency: IdempotencyKey) -> JobRecord | None:
    """The job that the key made, None if it made none. Raises `IdempotencyMismatchError`."""
    statement = select(IdempotencyRow).where(*_named(idempotency), IdempotencyRow.expires_at > now())
    row = session.scalars(statement).first()
    if row is None:
        return None
    if row.fingerprint != idempotency.fingerprint:
        raise IdempotencyMismatchError(
            "This idempotency key was used before with another body; use a new key for a new request."
        )
    return rows.find(session, row.job_id)


def landed(session: Session, job_id: str) -> Submission | None:
    """The submission, if its transaction was committed."""
    found = rows.find(session, job_id)
    return None if found is None else Submission(found, replayed=False)


def _named(idempotency: IdempotencyKey) -> tuple[Any, Any]:
    return IdempotencyRow.route == idempotency.route, IdempotencyRow.key == idempotency.key


def _take_key(session: Session, job_id: str, idempotency: IdempotencyKey, seconds: float) -> bool:
    """Insert the key; False when it is taken. Waits for a transaction that is inserting the same key."""
    session.execute(delete(IdempotencyRow).where(*_named(idempotency), IdempotencyRow.expires_at <= now()))
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = (
        dialect.insert(IdempotencyRow)
        .values(
            route=idempotency.route,
            key=idempotency.key,
            fingerprint=idempotency.fingerprint,
            job_id=job_id,
            expires_at=from_now(seconds),
        )
        .on_conflict_do_nothing()
        .returning(IdempotencyRow.job_id)
    )
    return session.scalar(statement) is not None


def _hold_files(session: Session, new: NewJob) -> None:
    """Check that model and dataset exist, and lock them against deletion until the commit."""
    model = select(ModelRow.id).where(ModelRow.id == new.model_id).with_for_update(read=True)
    if session.scalar(model) is None:
        raise NotFoundError(f"There is no model {new.model_id}.")
    if new.dataset_id is None:
        return
    dataset = select(DatasetRow.id).where(DatasetRow.id == new.dataset_id).with_for_update(read=True)
    if session.scalar(dataset) is None:
        raise NotFoundError(f"There is no dataset {new.dataset_id}.")


def _values(job_id: str, new: NewJob) -> dict[str, Any]:
    return {
        "id": job_id,
        "kind": new.kind,
        "status": JobStatus.QUEUED,
        "priority": _PRIORITY[new.kind],
        "model_id": new.model_id,
        "dataset_id": new.dataset_id,
        "recipe": None if new.recipe is None else new.recipe.model_dump(mode="json"),
        "inputs": rows.dump_inputs(new.inputs),
        "user_metadata": dict(new.metadata),
        "webhook_url": new.webhook_url,
        "max_attempts": new.max_attempts,
        "created_at": now(),
        "queued_at": now(),
        "rung_at": now(),
        "event_count": 1,
    }

"""Rows for tests: the least that the store accepts."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import update

from api_schemas.datasets import ArrayInfo, DatasetFormat
from api_schemas.errors import ErrorCode, JobError
from api_schemas.events import ChildEvent, EventType
from api_schemas.ids import new_dataset_id, new_model_id
from api_schemas.models import Inspection, ModelFormat
from api_schemas.recipe import PartSpec, Recipe
from store import Store
from store.clock import from_now
from store.records import Claim, DatasetRecord, JobKind, ModelRecord, NewJob
from store.tables import IdempotencyRow, JobRow

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
ERROR = JobError(code=ErrorCode.INTERNAL, message="It broke.", hint="Mend it.")
INSPECTION = Inspection(format=ModelFormat.ONNX, parameters=12, opset=17)


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def model(content: str = "a model", **changes: object) -> ModelRecord:
    values = {
        "id": new_model_id(),
        "sha256": digest(content),
        "format": ModelFormat.ONNX,
        "filename": "net.onnx",
        "size_bytes": 3_000_000_000,
        "created_at": LONG_AGO,
        **changes,
    }
    return ModelRecord(**values)  # type: ignore[arg-type]


def dataset(content: str = "data") -> DatasetRecord:
    return DatasetRecord(
        id=new_dataset_id(),
        sha256=digest(content),
        format=DatasetFormat.NPZ,
        filename="data.npz",
        size_bytes=5,
        created_at=LONG_AGO,
        arrays=(ArrayInfo(name="x", dtype="float32", shape=[10, 3]),),
        rows=10,
        has_targets=True,
    )


def recipe() -> Recipe:
    axes = ("criterion", "granularity", "allocation", "schedule", "apply", "recovery")
    parts = {axis: PartSpec.model_validate({"name": "some", "factor": 1.5}) for axis in axes}
    return Recipe.model_validate({**parts, "target": {"sparsity": 0.8}, "layers": {"a": {"sparsity": 0.5}}})


def add_model(store: Store, content: str = "a model") -> ModelRecord:
    return store.models.add(model(content))


def new_job(store: Store, kind: JobKind = JobKind.PRUNE, **values: object) -> NewJob:
    return NewJob(kind=kind, model_id=add_model(store).id, **values)  # type: ignore[arg-type]


def queue(store: Store, kind: JobKind = JobKind.PRUNE, **values: object) -> str:
    """Queue a job of a model of its own; gives its id."""
    return store.jobs.submit(new_job(store, kind, **values)).job.id


def claim(store: Store, job_id: str | None = None, worker: str = "w1") -> Claim:
    found = store.jobs.claim(worker, job_id=job_id)
    assert found is not None
    return found


def running(store: Store, kind: JobKind = JobKind.PRUNE, **values: object) -> Claim:
    return claim(store, queue(store, kind, **values))


def lapse(store: Store, job_id: str) -> None:
    """Let the lease of the job have ended a second ago."""
    set_columns(store, job_id, lease_until=from_now(-1))


def set_columns(store: Store, job_id: str, **values: object) -> None:
    with store._database.engine.begin() as connection:
        connection.execute(update(JobRow).where(JobRow.id == job_id).values(**values))


def outdate_keys(store: Store) -> None:
    """Let the time of all idempotency keys be over."""
    with store._database.engine.begin() as connection:
        connection.execute(update(IdempotencyRow).values(expires_at=from_now(-1)))


def warnings(*messages: str) -> Sequence[ChildEvent]:
    return [ChildEvent(type=EventType.WARNING, data={"message": message}) for message in messages]


def history(store: Store, job_id: str) -> list[str]:
    """The statuses that the job has been in, from its events; checks their numbering."""
    events = store.jobs.events(job_id)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    return [event.data["status"] for event in events if event.type is EventType.STATUS]

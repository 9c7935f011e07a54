"""Rows as the rest of the program sees them: frozen, detached from any session.

Times are aware UTC datetimes taken from the database clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from api_schemas.datasets import ArrayInfo, DatasetFormat
from api_schemas.errors import JobError
from api_schemas.jobs import InputSpecs, JobStatus, Progress, Stage, Summary
from api_schemas.models import Inspection, ModelFormat
from api_schemas.recipe import Recipe

Item = TypeVar("Item")


class JobKind(StrEnum):
    """`prune` is what users post; `inspect` runs once per uploaded file; `plan` answers a validation."""

    PRUNE = "prune"
    INSPECT = "inspect"
    PLAN = "plan"


@dataclass(frozen=True)
class BlobRef:
    """A published, content-addressed blob."""

    sha256: str
    size_bytes: int
    filename: str


@dataclass(frozen=True)
class ModelRecord:
    """An uploaded model. `inspection` and `inspection_error` are None until its inspect job has ended."""

    id: str
    sha256: str
    format: ModelFormat
    filename: str
    size_bytes: int
    created_at: datetime
    inspection: Inspection | None = None
    inspection_error: JobError | None = None


@dataclass(frozen=True)
class DatasetRecord:
    """An uploaded dataset."""

    id: str
    sha256: str
    format: DatasetFormat
    filename: str
    size_bytes: int
    created_at: datetime
    arrays: tuple[ArrayInfo, ...]
    rows: int
    has_targets: bool


@dataclass(frozen=True)
class NewJob:
    """A job to be queued. `webhook_url`, `metadata` and `inputs` are as the user gave them."""

    kind: JobKind
    model_id: str
    dataset_id: str | None = None
    recipe: Recipe | None = None
    inputs: InputSpecs = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    webhook_url: str | None = None
    max_attempts: int = 3


@dataclass(frozen=True)
class IdempotencyKey:
    """The key of a POST with a fingerprint of its body; kept in the job's own transaction."""

    route: str
    key: str
    fingerprint: str


@dataclass(frozen=True)
class JobRecord:
    """A job row. The result fields are None until it has succeeded, `checkpoint` once it has ended."""

    id: str
    kind: JobKind
    status: JobStatus
    model_id: str
    dataset_id: str | None
    recipe: Recipe | None
    inputs: InputSpecs
    metadata: Mapping[str, str]
    webhook_url: str | None
    attempts: int
    max_attempts: int
    created_at: datetime
    stage: Stage | None = None
    progress: Progress = field(default_factory=Progress)
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested: bool = False
    error: JobError | None = None
    summary: Summary | None = None
    model: BlobRef | None = None
    report: BlobRef | None = None
    page: BlobRef | None = None
    plan: Mapping[str, Any] | None = None
    checkpoint: BlobRef | None = None
    checkpoint_at: datetime | None = None


@dataclass(frozen=True)
class Submission:
    """What `JobStore.submit` did: a new job, or the one that the idempotency key made before."""

    job: JobRecord
    replayed: bool


@dataclass(frozen=True)
class Claim:
    """A lease on a job. Every write a worker makes carries the token; a stale one is refused."""

    job: JobRecord
    token: int
    worker: str


@dataclass(frozen=True)
class Outcome:
    """What a worker publishes when its job has succeeded. Blobs are published before this is committed."""

    summary: Summary | None = None
    model: BlobRef | None = None
    report: BlobRef | None = None
    page: BlobRef | None = None
    inspection: Inspection | None = None
    plan: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Beat:
    """The answer to a heartbeat; `cancel_requested` asks the supervisor to stop its child."""

    cancel_requested: bool


@dataclass(frozen=True)
class Reconciled:
    """What a sweep did, as job ids.

    `queued` have waited without being claimed since their last ring: their bell should be rung again.
    """

    requeued: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    queued: tuple[str, ...] = ()


@dataclass(frozen=True)
class WebhookDelivery:
    """A notification to be posted. `id` is the same on every try; `attempts` counts this one."""

    id: str
    job_id: str
    url: str
    payload: Mapping[str, Any]
    attempts: int
    created_at: datetime


@dataclass(frozen=True)
class WorkerRecord:
    """A worker process as it described itself; `seen_at` is its last sign of life."""

    name: str
    version: str
    sandbox: str
    device: str
    detail: Mapping[str, Any]
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True)
class Slice(Generic[Item]):
    """One page of a listing, newest first; `next_cursor` is None on the last."""

    items: tuple[Item, ...]
    next_cursor: str | None = None

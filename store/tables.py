"""The tables. Rows never leave this package: `records.py` is what the rest of the program sees."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Enum, ForeignKey, Index, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from api_schemas.datasets import DatasetFormat
from api_schemas.events import EventType
from api_schemas.jobs import JobStatus, Stage
from api_schemas.models import ModelFormat
from store.clock import Instant
from store.records import JobKind

_ID = String(40)
_SHA256 = String(64)
# Not JSONB, which refuses the \u0000 that a name in a hostile model may hold.
_JSON = JSON(none_as_null=True)


def _enum(kind: type[StrEnum]) -> Enum:
    """A VARCHAR of the enum's values: a new member needs no migration."""
    return Enum(
        kind, native_enum=False, length=32, values_callable=lambda members: [m.value for m in members]
    )


class Base(DeclarativeBase):
    """All tables; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class ModelRow(Base):
    """An uploaded model."""

    __tablename__ = "models"
    __table_args__ = (Index(None, "created_at", "id"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    sha256: Mapped[str] = mapped_column(_SHA256, index=True)
    format: Mapped[ModelFormat] = mapped_column(_enum(ModelFormat))
    filename: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Instant)
    inspection: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    inspection_error: Mapped[dict[str, Any] | None] = mapped_column(_JSON)


class DatasetRow(Base):
    """An uploaded dataset."""

    __tablename__ = "datasets"
    __table_args__ = (Index(None, "created_at", "id"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    sha256: Mapped[str] = mapped_column(_SHA256, index=True)
    format: Mapped[DatasetFormat] = mapped_column(_enum(DatasetFormat))
    filename: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Instant)
    arrays: Mapped[list[dict[str, Any]]] = mapped_column(_JSON)
    rows: Mapped[int] = mapped_column(BigInteger)
    has_targets: Mapped[bool]


class JobRow(Base):
    """A job.

    `token` rises with every claim and fences its writes. `claim_nonce` lets a worker that never heard
    whether its claim was committed find it again. `event_count` is the number of the last event.
    `rung_at` is when the doorbell was last rung, or should have been. `checkpoint_token` is the token of
    the claim that saved the checkpoint, `advances` the number of claims that saved one.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_queue", "status", "priority", "created_at", "id"),
        Index("ix_jobs_leases", "status", "lease_until"),
        Index(None, "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    kind: Mapped[JobKind] = mapped_column(_enum(JobKind))
    status: Mapped[JobStatus] = mapped_column(_enum(JobStatus))
    priority: Mapped[int]
    # No foreign keys: a finished job outlives the model it was made from.
    model_id: Mapped[str] = mapped_column(_ID, index=True)
    dataset_id: Mapped[str | None] = mapped_column(_ID, index=True)
    recipe: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    inputs: Mapped[dict[str, Any]] = mapped_column(_JSON)
    user_metadata: Mapped[dict[str, str]] = mapped_column(_JSON)
    webhook_url: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(Instant)
    queued_at: Mapped[datetime] = mapped_column(Instant)
    rung_at: Mapped[datetime] = mapped_column(Instant)
    started_at: Mapped[datetime | None] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
    stage: Mapped[Stage | None] = mapped_column(_enum(Stage))
    progress: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    error: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    summary: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    plan: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    token: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None] = mapped_column(Text)
    claim_nonce: Mapped[str | None] = mapped_column(_ID)
    lease_until: Mapped[datetime | None] = mapped_column(Instant)
    checkpoint_sha256: Mapped[str | None] = mapped_column(_SHA256)
    checkpoint_bytes: Mapped[int | None] = mapped_column(BigInteger)
    checkpoint_at: Mapped[datetime | None] = mapped_column(Instant)
    checkpoint_token: Mapped[int | None]
    advances: Mapped[int] = mapped_column(default=0, server_default="0")
    event_count: Mapped[int] = mapped_column(default=0)
    artefacts: Mapped[list["ArtefactRow"]] = relationship(lazy="selectin")


class ArtefactRow(Base):
    """A blob that a succeeded job published."""

    __tablename__ = "artefacts"

    job_id: Mapped[str] = mapped_column(_ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    sha256: Mapped[str] = mapped_column(_SHA256, index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    filename: Mapped[str] = mapped_column(Text)


class EventRow(Base):
    """One event; numbers run from 1 per job without gaps."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(_ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    type: Mapped[EventType] = mapped_column(_enum(EventType))
    at: Mapped[datetime] = mapped_column(Instant)
    data: Mapped[dict[str, Any]] = mapped_column(_JSON)


class IdempotencyRow(Base):
    """The first use of an idempotency key, and the job it made."""

    __tablename__ = "idempotency_keys"

    route: Mapped[str] = mapped_column(String(255), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text)
    job_id: Mapped[str] = mapped_column(_ID, index=True)
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)


class WebhookRow(Base):
    """The outbox: one notification, written in the transaction that ended its job."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    job_id: Mapped[str] = mapped_column(_ID, ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    url: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, Any]] = mapped_column(_JSON)
    created_at: Mapped[datetime] = mapped_column(Instant)
    due_at: Mapped[datetime] = mapped_column(Instant, index=True)
    attempts: Mapped[int] = mapped_column(default=0)


class WorkerRow(Base):
    """A worker process, as it described itself."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    version: Mapped[str] = mapped_column(Text)
    sandbox: Mapped[str] = mapped_column(Text)
    device: Mapped[str] = mapped_column(Text)
    detail: Mapped[dict[str, Any]] = mapped_column(_JSON)
    started_at: Mapped[datetime] = mapped_column(Instant)
    seen_at: Mapped[datetime] = mapped_column(Instant)

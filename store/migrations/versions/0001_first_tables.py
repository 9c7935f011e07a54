"""Create models, datasets, jobs with what belongs to them, idempotency keys and workers."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(40)
SHA256 = sa.String(64)
WORD = sa.String(32)
NAME = sa.String(255)
INSTANT = sa.BigInteger()  # microseconds since 1970, UTC
JSON = sa.JSON()


def upgrade() -> None:
    """Create the tables."""
    _create_files("models", [_optional("inspection", JSON), _optional("inspection_error", JSON)])
    _create_files(
        "datasets",
        [_column("arrays", JSON), _column("rows", sa.BigInteger()), _column("has_targets", sa.Boolean())],
    )
    _create_jobs()
    _create_artefacts()
    _create_events()
    _create_webhooks()
    _create_idempotency_keys()
    _create_workers()


def downgrade() -> None:
    """Drop the tables and all they hold."""
    for table in (
        "webhooks",
        "events",
        "artefacts",
        "jobs",
        "idempotency_keys",
        "workers",
        "datasets",
        "models",
    ):
        op.drop_table(table)


def _column(name: str, kind: sa.types.TypeEngine[Any], **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, **options)


def _optional(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def _index(table: str, *columns: str, name: str | None = None) -> None:
    op.create_index(name or f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def _of_job(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=f"fk_{table}_job_id", ondelete="CASCADE")


def _create_files(table: str, columns: list[sa.Column[Any]]) -> None:
    op.create_table(
        table,
        _column("id", ID),
        _column("sha256", SHA256),
        _column("format", WORD),
        _column("filename", sa.Text()),
        _column("size_bytes", sa.BigInteger()),
        _column("created_at", INSTANT),
        *columns,
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    )
    _index(table, "sha256")
    _index(table, "created_at", "id")


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        _column("id", ID),
        _column("kind", WORD),
        _column("status", WORD),
        _column("priority", sa.Integer()),
        _column("model_id", ID),
        _optional("dataset_id", ID),
        _optional("recipe", JSON),
        _column("inputs", JSON),
        _column("user_metadata", JSON),
        _optional("webhook_url", sa.Text()),
        _column("attempts", sa.Integer()),
        _column("max_attempts", sa.Integer()),
        _column("created_at", INSTANT),
        _column("queued_at", INSTANT),
        _column("rung_at", INSTANT),
        _optional("started_at", INSTANT),
        _optional("finished_at", INSTANT),
        _optional("stage", WORD),
        _optional("progress", JSON),
        _column("cancel_requested", sa.Boolean()),
        _optional("error", JSON),
        _optional("summary", JSON),
        _optional("plan", JSON),
        _column("token", sa.Integer()),
        _optional("worker", sa.Text()),
        _optional("claim_nonce", ID),
        _optional("lease_until", INSTANT),
        _column("event_count", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    _index("jobs", "status", "priority", "created_at", "id", name="ix_jobs_queue")
    _index("jobs", "status", "lease_until", name="ix_jobs_leases")
    _index("jobs", "created_at", "id")
    _index("jobs", "model_id")
    _index("jobs", "dataset_id")


def _create_artefacts() -> None:
    op.create_table(
        "artefacts",
        _column("job_id", ID),
        _column("role", sa.String(16)),
        _column("sha256", SHA256),
        _column("size_bytes", sa.BigInteger()),
        _column("filename", sa.Text()),
        _of_job("artefacts"),
        sa.PrimaryKeyConstraint("job_id", "role", name="pk_artefacts"),
    )
    _index("artefacts", "sha256")


def _create_events() -> None:
    op.create_table(
        "events",
        _column("job_id", ID),
        _column("number", sa.Integer(), autoincrement=False),
        _column("type", WORD),
        _column("at", INSTANT),
        _column("data", JSON),
        _of_job("events"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_events"),
    )


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        _column("id", ID),
        _column("job_id", ID),
        _column("url", sa.Text()),
        _column("payload", JSON),
        _column("created_at", INSTANT),
        _column("due_at", INSTANT),
        _column("attempts", sa.Integer()),
        _of_job("webhooks"),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    _index("webhooks", "job_id")
    _index("webhooks", "due_at")


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        _column("route", NAME),
        _column("key", NAME),
        _column("fingerprint", sa.Text()),
        _column("job_id", ID),
        _column("expires_at", INSTANT),
        sa.PrimaryKeyConstraint("route", "key", name="pk_idempotency_keys"),
    )
    _index("idempotency_keys", "job_id")
    _index("idempotency_keys", "expires_at")


def _create_workers() -> None:
    op.create_table(
        "workers",
        _column("name", NAME),
        _column("version", sa.Text()),
        _column("sandbox", sa.Text()),
        _column("device", sa.Text()),
        _column("detail", JSON),
        _column("started_at", INSTANT),
        _column("seen_at", INSTANT),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )

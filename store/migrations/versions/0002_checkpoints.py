"""Let jobs name the checkpoint that the next attempt goes on from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. The one that may not be null has a default, for releases that do not know it."""
    for column in (
        sa.Column("checkpoint_sha256", sa.String(64), nullable=True),
        sa.Column("checkpoint_bytes", sa.BigInteger(), nullable=True),
        sa.Column("checkpoint_at", sa.BigInteger(), nullable=True),  # microseconds since 1970, UTC
        sa.Column("checkpoint_token", sa.Integer(), nullable=True),
        sa.Column("advances", sa.Integer(), nullable=False, server_default="0"),
    ):
        op.add_column("jobs", column)


def downgrade() -> None:
    """Drop the columns; running jobs would start over."""
    with op.batch_alter_table("jobs") as jobs:
        for name in (
            "checkpoint_sha256",
            "checkpoint_bytes",
            "checkpoint_at",
            "checkpoint_token",
            "advances",
        ):
            jobs.drop_column(name)

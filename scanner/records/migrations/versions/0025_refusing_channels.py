"""Creates a table for the channels to the operator that refuse messages, with the refused messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import Json, String, Text, UtcDateTime

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refusing_channels",
        sa.Column("channel", String(length=32), nullable=False),
        sa.Column("error", Text(), nullable=False),
        sa.Column("messages", Json, nullable=False),
        sa.Column("first_at", UtcDateTime(), nullable=False),
        sa.Column("last_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("channel", name=op.f("pk_refusing_channels")),
    )


def downgrade() -> None:
    op.drop_table("refusing_channels")

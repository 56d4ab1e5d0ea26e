"""Creates the tables of the heartbeats of processes, and of problems about which the operator was notified."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import String, Text, UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "heartbeats",
        sa.Column("role", String(length=32), nullable=False),
        sa.Column("host", String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("queues", Text(), nullable=False),
        sa.Column("version", String(length=64), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("role", "host", "pid", name=op.f("pk_heartbeats")),
    )
    op.create_index(op.f("ix_heartbeats_seen_at"), "heartbeats", ["seen_at"])
    op.create_table(
        "told_problems",
        sa.Column("key", String(length=255), nullable=False),
        sa.Column("kind", String(length=64), nullable=False),
        sa.Column("sentence", Text(), nullable=False),
        sa.Column("todo", Text(), nullable=False),
        sa.Column("first_at", UtcDateTime(), nullable=False),
        sa.Column("last_at", UtcDateTime(), nullable=False),
        sa.Column("told_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_told_problems")),
    )


def downgrade() -> None:
    op.drop_table("told_problems")
    op.drop_index(op.f("ix_heartbeats_seen_at"), table_name="heartbeats")
    op.drop_table("heartbeats")

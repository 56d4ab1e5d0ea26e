"""Creates the table of pushes that sources have seen, and the table of the recall that is measured from them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import Id, Json, UtcDateTime

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "push_marks",
        sa.Column("repository_id", Id, primary_key=True, autoincrement=False),
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("pushed_at", UtcDateTime(), primary_key=True),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("is_new", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_push_marks_seen_at", "push_marks", ["seen_at"])
    op.create_table(
        "recall_measurements",
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("shares", Json, nullable=False),
        sa.Column("total", Json, nullable=False),
        sa.Column("measured_at", UtcDateTime(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("recall_measurements")
    op.drop_table("push_marks")

"""Adds deadlines to jobs and polls, so that `r8scan status` can show which of them are overdue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import UtcDateTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLES = ("scan_jobs", "source_states")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("claimed_at", UtcDateTime(), nullable=True))
        op.add_column(table, sa.Column("deadline_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    for table in _TABLES:
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column("deadline_at")
            batch_op.drop_column("claimed_at")

"""Adds a column to heartbeats: the difference between the clock of the process's host and the database's clock."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("heartbeats", sa.Column("clock_ahead_seconds", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("heartbeats", "clock_ahead_seconds")

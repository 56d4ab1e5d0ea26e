"""Adds a column to incidents: the console user who is responsible for the incident."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import String

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("incidents", sa.Column("assignee", String(255), nullable=True))
    op.create_index(
        "ix_incidents_assignee_detected_at",
        "incidents",
        ["assignee", "detected_at"],
        postgresql_where=sa.text("assignee IS NOT NULL"),
        sqlite_where=sa.text("assignee IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_incidents_assignee_detected_at", "incidents")
    op.drop_column("incidents", "assignee")

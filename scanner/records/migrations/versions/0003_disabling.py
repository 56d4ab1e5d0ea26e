"""Adds leases and due times to incidents, for tokens that are disabled by a call to an external token store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("incidents", sa.Column("leased_until", UtcDateTime(), nullable=True))
    op.add_column("incidents", sa.Column("attempts", sa.Integer(), server_default="0", nullable=False))
    op.add_column("incidents", sa.Column("next_attempt_at", UtcDateTime(), nullable=True))
    op.create_index(
        "ix_incidents_disabling",
        "incidents",
        ["next_attempt_at"],
        postgresql_where=sa.text("action = 'disabling'"),
        sqlite_where=sa.text("action = 'disabling'"),
    )


def downgrade() -> None:
    op.drop_index("ix_incidents_disabling", "incidents")
    with op.batch_alter_table("incidents") as batch_op:
        batch_op.drop_column("next_attempt_at")
        batch_op.drop_column("attempts")
        batch_op.drop_column("leased_until")

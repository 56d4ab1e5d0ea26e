"""Creates the table in which all workers share one rate of git requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import Id, UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "resource_rates",
        sa.Column("credential", sa.String(160), nullable=False),
        sa.Column("resource", sa.String(32), nullable=False),
        sa.Column("per_second", sa.Float(), nullable=False),
        sa.Column("next_slot_at", UtcDateTime(), nullable=True),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("window_began_at", UtcDateTime(), nullable=True),
        sa.Column("measured_per_second", sa.Float(), nullable=False),
        sa.Column("refusals", Id, nullable=False),
        sa.Column("refused_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("credential", "resource", name=op.f("pk_resource_rates")),
    )


def downgrade() -> None:
    op.drop_table("resource_rates")

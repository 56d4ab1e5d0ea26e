"""Creates the table of canary tokens: where each was planted, when it was disabled, and which source saw it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import Id, String, Text, UtcDateTime

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "canaries",
        sa.Column("id", Id, nullable=False),
        sa.Column("way", sa.String(length=16), nullable=False),
        sa.Column("slot", Id, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("digest", String(length=64), nullable=True),
        sa.Column("place", Text(), nullable=False),
        sa.Column("planted_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("decision", sa.String(length=32), nullable=True),
        sa.Column("source", String(length=64), nullable=True),
        sa.Column("error", Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_canaries")),
        sa.UniqueConstraint("digest", name=op.f("uq_canaries_digest")),
        sa.UniqueConstraint("way", "slot", name=op.f("uq_canaries_way_slot")),
    )
    op.create_index("ix_canaries_state_way", "canaries", ["state", "way"])
    op.create_index(op.f("ix_canaries_planted_at"), "canaries", ["planted_at"])


def downgrade() -> None:
    op.drop_table("canaries")

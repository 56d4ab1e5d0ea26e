"""Replaces the table of pushes by a table of the newest commits (tips) that were read in each repository."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import Id, Json, UtcDateTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "repository_tips",
        sa.Column("host", sa.String(100), nullable=False),
        sa.Column("repository_id", Id, autoincrement=False, nullable=False),
        sa.Column("tips", sa.LargeBinary(), nullable=False),
        sa.Column("is_whole", sa.Boolean(), nullable=False),
        sa.Column("pushed_at", UtcDateTime(), nullable=True),
        sa.Column("refs_listed_at", UtcDateTime(), nullable=True),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("host", "repository_id", name=op.f("pk_repository_tips")),
    )
    op.create_index(op.f("ix_repository_tips_read_at"), "repository_tips", ["read_at"])
    op.drop_table("read_pushes")


def downgrade() -> None:
    op.drop_table("repository_tips")
    op.create_table(
        "read_pushes",
        sa.Column("repository_id", Id, autoincrement=False, nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
        sa.Column("before", sa.String(64), nullable=False),
        sa.Column("hits", Json, nullable=True),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "head", "before", name=op.f("pk_read_pushes")),
    )
    op.create_index(op.f("ix_read_pushes_head"), "read_pushes", ["head"])
    op.create_index(op.f("ix_read_pushes_read_at"), "read_pushes", ["read_at"])

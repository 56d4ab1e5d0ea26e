"""Creates the table of contents that were not read completely: the reasons, the digest and the place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import Id, Json, UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "unread_contents",
        sa.Column("id", Id, primary_key=True, autoincrement=True),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("job_id", Id, nullable=True),
        sa.Column("reasons", sa.String(200), nullable=False),
        sa.Column("content_digest", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("place", Json, nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
    )
    op.create_index("ix_unread_contents_job_id", "unread_contents", ["job_id"])
    op.create_index("ix_unread_contents_seen_at", "unread_contents", ["seen_at"])


def downgrade() -> None:
    op.drop_table("unread_contents")

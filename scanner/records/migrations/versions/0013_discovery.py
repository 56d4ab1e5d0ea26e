"""Creates tables for time ranges that repository search will search again, and for new repositories."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import Id, UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "search_windows",
        sa.Column("start", Id, primary_key=True, autoincrement=False),
        sa.Column("end", Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("seen", sa.LargeBinary(), nullable=False),
        sa.Column("first_look_at", UtcDateTime(), nullable=False),
        sa.Column("next_look_at", UtcDateTime(), nullable=False),
    )
    op.create_index("ix_search_windows_next_look_at", "search_windows", ["next_look_at"])
    op.create_table(
        "new_repositories",
        sa.Column("repository_id", Id, primary_key=True, autoincrement=False),
        sa.Column("node_id", sa.String(200), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("listed_at", UtcDateTime(), nullable=False),
        sa.Column("next_look_at", UtcDateTime(), nullable=False),
    )
    op.create_index("ix_new_repositories_next_look_at", "new_repositories", ["next_look_at"])


def downgrade() -> None:
    op.drop_table("new_repositories")
    op.drop_table("search_windows")

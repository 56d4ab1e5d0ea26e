"""Creates the tables of the sources: budgets, circuit breakers, gaps, counters, and objects that were read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import Id, Json, UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("credential", sa.String(length=160), nullable=False),
        sa.Column("resource", sa.String(length=32), nullable=False),
        sa.Column("limit", Id, nullable=False),
        sa.Column("remaining", Id, nullable=False),
        sa.Column("resets_at", UtcDateTime(), nullable=True),
        sa.Column("blocked_until", UtcDateTime(), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("credential", "resource", name=op.f("pk_budgets")),
    )
    op.create_table(
        "circuits",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("open_until", UtcDateTime(), nullable=True),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_circuits")),
    )
    op.create_table(
        "gaps",
        sa.Column("id", Id, nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("from_at", UtcDateTime(), nullable=False),
        sa.Column("until_at", UtcDateTime(), nullable=False),
        sa.Column("estimated", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("found_at", UtcDateTime(), nullable=False),
        sa.Column("filled_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gaps")),
    )
    op.create_index(op.f("ix_gaps_source"), "gaps", ["source"])
    op.create_index(op.f("ix_gaps_until_at"), "gaps", ["until_at"])
    op.create_table(
        "read_objects",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=160), nullable=False),
        sa.Column("hits", Json, nullable=True),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "key", name=op.f("pk_read_objects")),
    )
    op.create_index(op.f("ix_read_objects_read_at"), "read_objects", ["read_at"])
    op.create_table(
        "seen_events",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_seen_events")),
    )
    op.create_index(op.f("ix_seen_events_seen_at"), "seen_events", ["seen_at"])
    op.create_table(
        "tallies",
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("hour", UtcDateTime(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("count", Id, nullable=False),
        sa.PrimaryKeyConstraint("source", "hour", "name", name=op.f("pk_tallies")),
    )
    op.create_index(op.f("ix_tallies_hour"), "tallies", ["hour"])
    op.add_column("read_pushes", sa.Column("hits", Json, nullable=True))
    op.create_index(op.f("ix_read_pushes_head"), "read_pushes", ["head"])
    op.add_column("scan_jobs", sa.Column("visible_at", UtcDateTime(), nullable=True))
    op.add_column("scan_jobs", sa.Column("parent_id", Id, nullable=True))
    op.create_index(op.f("ix_scan_jobs_finished_at"), "scan_jobs", ["finished_at"])
    op.create_index(op.f("ix_scan_jobs_parent_id"), "scan_jobs", ["parent_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_scan_jobs_parent_id"), "scan_jobs")
    op.drop_index(op.f("ix_scan_jobs_finished_at"), "scan_jobs")
    op.drop_index(op.f("ix_read_pushes_head"), "read_pushes")
    with op.batch_alter_table("scan_jobs") as batch_op:
        batch_op.drop_column("parent_id")
        batch_op.drop_column("visible_at")
    with op.batch_alter_table("read_pushes") as batch_op:
        batch_op.drop_column("hits")
    for table in ("tallies", "seen_events", "read_objects", "gaps", "circuits", "budgets"):
        op.drop_table(table)

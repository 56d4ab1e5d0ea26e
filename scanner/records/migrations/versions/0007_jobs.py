"""Adds columns to jobs: when a job was begun, how many items it has, and whether several requesters share it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_WAITING = sa.text("state = 'queued' AND begun_at IS NULL")
_QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    op.add_column("scan_jobs", sa.Column("begun_at", UtcDateTime(), nullable=True))
    # A queued job of pushes or files has not been read yet, even if a worker has claimed it. So it gets no start time.
    op.execute(
        "UPDATE scan_jobs SET begun_at = created_at WHERE attempts > 0 "
        "AND (state <> 'queued' OR kind NOT IN ('pushes', 'files'))"
    )
    op.add_column("scan_jobs", sa.Column("is_shared", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    # If a child job has another source than its parent job, both sources have asked for the child job.
    op.execute(
        "UPDATE scan_jobs SET is_shared = true WHERE EXISTS (SELECT 1 FROM scan_jobs AS parent "
        "WHERE parent.id = scan_jobs.parent_id AND parent.source <> scan_jobs.source)"
    )
    op.add_column("scan_jobs", sa.Column("items", sa.Integer(), server_default="1", nullable=False))
    length = (
        "jsonb_array_length(target -> '{0}')"
        if op.get_bind().dialect.name == "postgresql"
        else "json_array_length(target, '$.{0}')"
    )
    for kind in ("pushes", "files"):
        op.execute(f"UPDATE scan_jobs SET items = {length.format(kind)} WHERE kind = '{kind}' AND state = 'queued'")  # noqa: S608
    op.drop_index("uq_scan_jobs_queued_dedupe_key", "scan_jobs")
    op.create_index(
        "uq_scan_jobs_waiting_dedupe_key",
        "scan_jobs",
        ["dedupe_key"],
        unique=True,
        postgresql_where=_WAITING,
        sqlite_where=_WAITING,
    )


def downgrade() -> None:
    op.drop_index("uq_scan_jobs_waiting_dedupe_key", "scan_jobs")
    with op.batch_alter_table("scan_jobs", schema=None) as batch_op:
        batch_op.drop_column("items")
        batch_op.drop_column("is_shared")
        batch_op.drop_column("begun_at")
    op.create_index(
        "uq_scan_jobs_queued_dedupe_key",
        "scan_jobs",
        ["dedupe_key"],
        unique=True,
        postgresql_where=_QUEUED,
        sqlite_where=_QUEUED,
    )

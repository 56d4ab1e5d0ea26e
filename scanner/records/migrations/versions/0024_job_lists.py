"""Creates indexes for the console's lists of jobs by kind, source and parent, in the order of the list."""

from __future__ import annotations

from alembic import op

from scanner.records.online_changes import JOB_LIST_INDEXES

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

REPLACED = {"ix_scan_jobs_source": "source", "ix_scan_jobs_parent_id": "parent_id"}


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        for name, definition in JOB_LIST_INDEXES.items():
            op.execute(f"CREATE INDEX {name} ON {definition}")
    for name in REPLACED:
        op.drop_index(name, "scan_jobs")


def downgrade() -> None:
    for name, column in REPLACED.items():
        op.create_index(name, "scan_jobs", [column])
    for name in JOB_LIST_INDEXES:
        op.drop_index(name, "scan_jobs", if_exists=True)

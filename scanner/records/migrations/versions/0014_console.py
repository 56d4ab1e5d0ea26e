"""Creates the tables of the console's users and sessions, and the indexes that its lists need."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import UtcDateTime

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_PATTERNS = ("account_name", "token_name", "hint")
_PLAIN = (
    ("ix_incidents_state_detected_at", "incidents", ["state", "detected_at"]),
    ("ix_incidents_action_detected_at", "incidents", ["action", "detected_at"]),
    ("ix_incidents_cause_detected_at", "incidents", ["cause", "detected_at"]),
    ("ix_exposures_source_seen_at", "exposures", ["source", "seen_at"]),
    ("ix_notifications_created_at", "notifications", ["created_at"]),
    ("ix_notifications_recipient", "notifications", ["recipient"]),
    ("ix_scan_jobs_state", "scan_jobs", ["state"]),
    ("ix_scan_jobs_source", "scan_jobs", ["source"]),
    ("ix_audit_who", "audit", ["who"]),
)


def upgrade() -> None:
    op.create_table(
        "console_users",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "console_sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("credential", sa.String(64), nullable=False),
        sa.Column("network", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
    )
    op.create_index("ix_console_sessions_name", "console_sessions", ["name"])
    op.create_index("ix_console_sessions_expires_at", "console_sessions", ["expires_at"])
    op.create_table(
        "console_keys",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("key", sa.String(64), nullable=False),
    )
    for name, table, columns in _PLAIN:
        op.create_index(name, table, columns)
    for column in _PATTERNS:
        op.create_index(f"ix_incidents_{column}", "incidents", [column], postgresql_ops={column: "text_pattern_ops"})
    op.create_index("ix_exposures_repository", "exposures", ["repository"], postgresql_using="hash")


def downgrade() -> None:
    op.drop_index("ix_exposures_repository", "exposures")
    for column in _PATTERNS:
        op.drop_index(f"ix_incidents_{column}", "incidents")
    for name, table, _ in _PLAIN:
        op.drop_index(name, table)
    for table in ("console_keys", "console_sessions", "console_users"):
        op.drop_table(table)

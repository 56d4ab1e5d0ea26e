"""Creates indexes for the console's lists of an incident's places, of tokens, of messages, and of people's actions."""

from __future__ import annotations

from alembic import op

from scanner.records.online_changes import LARGE_LIST_INDEXES

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        for name, definition in LARGE_LIST_INDEXES.items():
            op.execute(f"CREATE INDEX {name} ON {definition.replace(' text_pattern_ops', '')}")
    # The upgrade has created an index on recipient and time, so this older index is no longer needed.
    op.drop_index("ix_notifications_recipient", "notifications")


def downgrade() -> None:
    op.create_index("ix_notifications_recipient", "notifications", ["recipient"])
    for name, definition in LARGE_LIST_INDEXES.items():
        op.drop_index(name, definition.partition(" ")[0], if_exists=True)

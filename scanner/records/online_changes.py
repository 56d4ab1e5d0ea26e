"""Changes to large PostgreSQL tables, made while the service works and before the migration that needs them.

Each step can be repeated after an interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from sqlalchemy import Connection, Engine, text

BATCH_ROWS = 5000
"""The number of rows that one transaction updates. It takes some 100 ms."""

_EXPOSURES = """
    UPDATE exposures SET repository_key = left(repository, 200),
        detected_at = (SELECT detected_at FROM incidents WHERE incidents.id = exposures.incident_id)
    WHERE id >= :first AND id < :last AND detected_at IS NULL
"""
_SUBJECTS = """
    UPDATE notification_subjects SET
        detected_at = (SELECT detected_at FROM incidents WHERE incidents.id = notification_subjects.incident_id),
        mail_state = (
            SELECT CASE WHEN state IN ('sent', 'failed') THEN state ELSE 'waiting' END
            FROM notifications WHERE notifications.id = notification_subjects.notification_id
        )
    WHERE id >= :first AND id < :last AND detected_at IS NULL
"""
_OWNER_MAILS = """
    UPDATE incidents SET has_owner_mail = true WHERE NOT has_owner_mail AND id IN (
        SELECT incident_id FROM notification_subjects WHERE channel = 'email' AND id >= :first AND id < :last
    )
"""
LIST_INDEXES = {
    "ix_exposures_source_list": "exposures (source, detected_at, incident_id)",
    "ix_exposures_repository_list": "exposures (repository_key, detected_at, incident_id)",
    "ix_notification_subjects_mail_list": (
        "notification_subjects (mail_state, detected_at, incident_id) WHERE channel = 'email'"
    ),
    "ix_incidents_without_mail": "incidents (detected_at, id) WHERE NOT has_owner_mail",
}
"""The indexes of revision 0020, each with its table, columns and condition."""
LARGE_LIST_INDEXES = {
    "ix_exposures_incident_id_id": "exposures (incident_id, id)",
    "ix_notifications_channel_created_at": "notifications (channel, created_at)",
    "ix_notifications_recipient_created_at": "notifications (recipient, created_at)",
    "ix_api_tokens_hint": "api_tokens (hint text_pattern_ops)",
    "ix_api_tokens_name": "api_tokens (name text_pattern_ops)",
    "ix_api_tokens_protected": "api_tokens (id) WHERE protected_at IS NOT NULL",
    "ix_api_tokens_disabled": "api_tokens (id) WHERE disabled_at IS NOT NULL",
    "ix_audit_people": "audit (id) WHERE who <> 'r8scan'",
}
"""The indexes of revision 0023, each with its table, columns and condition."""

JOB_LIST_INDEXES = {f"ix_scan_jobs_{name}_id": f"scan_jobs ({name}, id)" for name in ("kind", "source", "parent_id")}
"""The indexes of revision 0024, each with its table and columns."""


def fill_list_columns(engine: Engine) -> None:
    """Fill and index the columns that triggers copy from other tables."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        for table, statements in (("exposures", (_EXPOSURES,)), ("notification_subjects", (_SUBJECTS, _OWNER_MAILS))):
            _in_batches(connection, table, statements)
        for name, definition in LIST_INDEXES.items():
            _build_index(connection, name, definition)
        connection.execute(text("RESET statement_timeout"))


def build_indexes(indexes: Mapping[str, str], engine: Engine) -> None:
    """Build the given indexes without blocking writers.

    Args:
        indexes: The definition of each index by its name.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        for name, definition in indexes.items():
            _build_index(connection, name, definition)
        connection.execute(text("RESET statement_timeout"))


BEFORE: Mapping[str, Callable[[Engine], None]] = {
    "0020": fill_list_columns,
    "0023": partial(build_indexes, LARGE_LIST_INDEXES),
    "0024": partial(build_indexes, JOB_LIST_INDEXES),
}
"""For some revisions, the function to run before the database is migrated to the revision."""


def _in_batches(connection: Connection, table: str, statements: tuple[str, ...]) -> None:
    first = connection.execute(text(f"SELECT min(id) FROM {table}")).scalar_one()  # noqa: S608 - a constant
    newest = connection.execute(text(f"SELECT max(id) FROM {table}")).scalar_one()  # noqa: S608 - a constant
    while first is not None and first <= newest:
        for statement in statements:
            connection.execute(text(statement), {"first": first, "last": first + BATCH_ROWS})
        first += BATCH_ROWS


def _build_index(connection: Connection, name: str, definition: str) -> None:
    """Build the index without blocking writers. Replace an invalid index."""
    is_valid = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    found = connection.execute(is_valid, {"name": name}).scalar_one_or_none()
    if found is False:
        connection.execute(text(f"DROP INDEX CONCURRENTLY {name}"))
    if not found:
        connection.execute(text(f"CREATE INDEX CONCURRENTLY {name} ON {definition}"))

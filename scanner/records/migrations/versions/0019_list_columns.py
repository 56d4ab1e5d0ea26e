"""Adds copied columns to the console's tables, so that one index can both filter and sort a list.

Triggers copy the values.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import String, UtcDateTime

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_FUNCTIONS = (
    """
    CREATE FUNCTION exposures_copies() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        NEW.detected_at := (SELECT detected_at FROM incidents WHERE id = NEW.incident_id);
        NEW.repository_key := left(NEW.repository, 200);
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION notification_subjects_copies() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        NEW.detected_at := (SELECT detected_at FROM incidents WHERE id = NEW.incident_id);
        NEW.mail_state := (
            SELECT CASE WHEN state IN ('sent', 'failed') THEN state ELSE 'waiting' END
            FROM notifications WHERE id = NEW.notification_id
        );
        IF NEW.channel = 'email' THEN
            UPDATE incidents SET has_owner_mail = true WHERE id = NEW.incident_id AND NOT has_owner_mail;
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE FUNCTION notifications_copied_state() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE notification_subjects
        SET mail_state = CASE WHEN NEW.state IN ('sent', 'failed') THEN NEW.state ELSE 'waiting' END
        WHERE notification_id = NEW.id;
        RETURN NULL;
    END $$
    """,
)
_POSTGRESQL = (
    "CREATE TRIGGER exposures_copies BEFORE INSERT ON exposures FOR EACH ROW EXECUTE FUNCTION exposures_copies()",
    "CREATE TRIGGER notification_subjects_copies BEFORE INSERT ON notification_subjects "
    "FOR EACH ROW EXECUTE FUNCTION notification_subjects_copies()",
    "CREATE TRIGGER notifications_copied_state AFTER UPDATE OF state ON notifications FOR EACH ROW "
    "WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION notifications_copied_state()",
)
_EXPOSURE_COPIES = """
    UPDATE exposures SET repository_key = substr(repository, 1, 200),
        detected_at = (SELECT detected_at FROM incidents WHERE incidents.id = exposures.incident_id)
"""
_SUBJECT_COPIES = """
    UPDATE notification_subjects SET
        detected_at = (SELECT detected_at FROM incidents WHERE incidents.id = notification_subjects.incident_id),
        mail_state = (
            SELECT CASE WHEN state IN ('sent', 'failed') THEN state ELSE 'waiting' END
            FROM notifications WHERE notifications.id = notification_subjects.notification_id
        )
"""
_OWNER_MAILS = """
    UPDATE incidents SET has_owner_mail = true WHERE id IN (
        SELECT incident_id FROM notification_subjects WHERE channel = 'email'
    )
"""
_SQLITE = (
    f"""
    CREATE TRIGGER exposures_copies AFTER INSERT ON exposures BEGIN
        {_EXPOSURE_COPIES} WHERE id = NEW.id;
    END
    """,
    f"""
    CREATE TRIGGER notification_subjects_copies AFTER INSERT ON notification_subjects BEGIN
        {_SUBJECT_COPIES} WHERE id = NEW.id;
    END
    """,
    """
    CREATE TRIGGER incidents_owner_mail AFTER INSERT ON notification_subjects WHEN NEW.channel = 'email' BEGIN
        UPDATE incidents SET has_owner_mail = true WHERE id = NEW.incident_id AND NOT has_owner_mail;
    END
    """,
    f"""
    CREATE TRIGGER notifications_copied_state AFTER UPDATE OF state ON notifications
    WHEN OLD.state IS NOT NEW.state BEGIN
        {_SUBJECT_COPIES} WHERE notification_id = NEW.id;
    END
    """,
)
_TRIGGERS = (
    ("exposures_copies", "exposures"),
    ("notification_subjects_copies", "notification_subjects"),
    ("notifications_copied_state", "notifications"),
)
_NO_MAIL: dict[str, Any] = {
    "postgresql_where": sa.text("NOT has_owner_mail"),
    "sqlite_where": sa.text("has_owner_mail = 0"),
}
_OWNERS: dict[str, Any] = {
    "postgresql_where": sa.text("channel = 'email'"),
    "sqlite_where": sa.text("channel = 'email'"),
}


def upgrade() -> None:
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    op.add_column("exposures", sa.Column("detected_at", UtcDateTime(), nullable=True))
    op.add_column("exposures", sa.Column("repository_key", String(200), nullable=True))
    op.add_column("notification_subjects", sa.Column("detected_at", UtcDateTime(), nullable=True))
    op.add_column("notification_subjects", sa.Column("mail_state", String(16), nullable=True))
    op.add_column("incidents", sa.Column("has_owner_mail", sa.Boolean(), nullable=False, server_default=sa.false()))
    for statement in (*_FUNCTIONS, *_POSTGRESQL) if is_postgresql else _SQLITE:
        op.execute(statement)
    op.drop_index("ix_exposures_repository", "exposures")
    op.drop_index("ix_exposures_source_seen_at", "exposures")
    if is_postgresql:
        return
    for statement in (_EXPOSURE_COPIES, _SUBJECT_COPIES, _OWNER_MAILS):
        op.execute(statement)
    op.create_index("ix_exposures_source_list", "exposures", ["source", "detected_at", "incident_id"])
    op.create_index("ix_exposures_repository_list", "exposures", ["repository_key", "detected_at", "incident_id"])
    columns = ["mail_state", "detected_at", "incident_id"]
    op.create_index("ix_notification_subjects_mail_list", "notification_subjects", columns, **_OWNERS)
    op.create_index("ix_incidents_without_mail", "incidents", ["detected_at", "id"], **_NO_MAIL)


def downgrade() -> None:
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    for name, table in _TRIGGERS:
        op.execute(f"DROP TRIGGER {name}{f' ON {table}' if is_postgresql else ''}")
        if is_postgresql:
            op.execute(f"DROP FUNCTION {name}()")
    if not is_postgresql:
        op.execute("DROP TRIGGER incidents_owner_mail")
    for name, table in (
        ("ix_incidents_without_mail", "incidents"),
        ("ix_notification_subjects_mail_list", "notification_subjects"),
        ("ix_exposures_repository_list", "exposures"),
        ("ix_exposures_source_list", "exposures"),
    ):
        op.drop_index(name, table, if_exists=True)
    op.create_index("ix_exposures_source_seen_at", "exposures", ["source", "seen_at"])
    op.create_index("ix_exposures_repository", "exposures", ["repository"], postgresql_using="hash")
    for table, names in (
        ("incidents", ("has_owner_mail",)),
        ("notification_subjects", ("mail_state", "detected_at")),
        ("exposures", ("repository_key", "detected_at")),
    ):
        for name in names:
            op.drop_column(table, name)

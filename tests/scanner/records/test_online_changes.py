"""Tests that large tables are changed in short transactions, and that an interrupted upgrade continues."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from scanner.records import online_changes, schema
from scanner.records.database import Database

ROWS = (
    """INSERT INTO incidents (id, digest, hint, token_id, token_name, cause, action, state, detected_at)
    SELECT md5('i' || n)::uuid, md5('d' || n), 'h', n, 'name', 'public_repository', 'disabled', 'closed',
        now() - n * interval '1 minute' FROM generate_series(1, 30) n""",
    """INSERT INTO exposures (incident_id, kind, url, repository, line, "column", encoding, container, source,
        place_key, seen_at)
    SELECT md5('i' || n)::uuid, 'file', 'u', repeat('r', 180 + n), 1, 1, 'plain', '', 'gists', 'p' || n, now()
    FROM generate_series(1, 30) n""",
    """INSERT INTO notifications (id, channel, merge_key, state, attempts, next_attempt_at, message_id, created_at)
    SELECT md5('m' || n)::uuid, 'email', 'k' || n, CASE WHEN n % 2 = 0 THEN 'frozen' ELSE 'sent' END, 1, now(), 'm',
        now() FROM generate_series(1, 20) n""",
    """INSERT INTO notification_subjects (notification_id, incident_id, channel, merge_key, occasion)
    SELECT md5('m' || n)::uuid, md5('i' || n)::uuid, 'email', 'k' || n, 'disabled' FROM generate_series(1, 20) n""",
)
FILLED = {
    "SELECT count(*) FROM exposures e JOIN incidents i ON i.id = e.incident_id "
    "WHERE e.detected_at = i.detected_at AND e.repository_key = left(e.repository, 200)": 30,
    "SELECT count(*) FROM notification_subjects s JOIN incidents i ON i.id = s.incident_id "
    "WHERE s.detected_at = i.detected_at AND s.mail_state IN ('waiting', 'sent')": 20,
    "SELECT count(*) FROM notification_subjects WHERE mail_state = 'sent'": 10,
    "SELECT count(*) FROM incidents WHERE has_owner_mail": 20,
    "SELECT count(*) FROM pg_index WHERE NOT indisvalid": 0,
}


def run(database: Database, *statements: str) -> None:
    with database.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def number(database: Database, statement: str) -> int:
    with database.engine.connect() as connection:
        return int(connection.execute(text(statement)).scalar_one())


def test_older_rows_get_their_copies_in_batches(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_changes, "BATCH_ROWS", 7)
    database = Database(postgresql_url)
    schema.upgrade_to(database, "0018")
    run(database, *ROWS)
    schema.upgrade(database)
    assert {statement: number(database, statement) for statement in FILLED} == FILLED
    database.close()


def test_an_interrupted_upgrade_continues(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(postgresql_url)
    schema.upgrade_to(database, "0018")
    run(database, *ROWS)

    def breaks_off(*_: object) -> None:
        raise ConnectionError("the machine went down")

    with monkeypatch.context() as broken:
        broken.setattr(online_changes, "_build_index", breaks_off)
        with pytest.raises(ConnectionError):
            schema.upgrade(database)
    assert schema.current_revision(database) == "0019"
    # Create the invalid index that PostgreSQL leaves if `CREATE INDEX CONCURRENTLY` is interrupted.
    run(
        database,
        "CREATE INDEX ix_incidents_without_mail ON incidents (id)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_incidents_without_mail'::regclass",
    )
    schema.upgrade(database)
    assert {statement: number(database, statement) for statement in FILLED} == FILLED
    assert schema.current_revision(database) == schema.newest_revision()
    database.close()

"""Tests that the database refuses to change or delete an audit entry, and that the hash chain reveals a change."""

from __future__ import annotations

import threading
import uuid

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from scanner.records import audit, schema
from scanner.records.audit import Entry
from scanner.records.audit_models import AuditEntry, AuditHead
from scanner.records.audit_verification import AuditBroken, verify
from scanner.records.database import Database

HASH = "f" * 64
TRIGGERS = ("audit_only_grows", "audit_is_not_emptied")


@pytest.fixture
def five(database: Database) -> Database:
    """Return a database with five audit entries from three transactions."""
    for whats in (("first",), ("second", "third"), ("fourth", "fifth")):
        with database.write() as session:
            audit.record_all(session, [Entry(what, {"what": what, "n": 1.5}) for what in whats], who="operator:ana")
    assert verify(database).entries == 5
    return database


def run_sql(database: Database, *statements: str) -> None:
    with database.write() as session:
        for statement in statements:
            session.execute(text(statement))


def drop_triggers(database: Database) -> None:
    on_table = " ON audit" if database.is_postgresql else ""
    run_sql(database, *(f"DROP TRIGGER {name}{on_table}" for name in TRIGGERS))


def test_unstorable_text_is_hashed_as_it_is_stored(database: Database) -> None:
    with database.write() as session:
        audit.record(session, "note", {"text": "\ud800 and \0", "list": ["\udcff"]}, who="ana\udcff")
    assert verify(database).entries == 1


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("UPDATE audit SET who = 'nobody' WHERE id = 3", "cannot be changed"),
        ("UPDATE audit SET hash = 'x'", "cannot be changed"),
        ("DELETE FROM audit WHERE id = 3", "cannot be deleted"),
        ("DELETE FROM audit", "cannot be deleted"),
    ],
)
def test_the_database_refuses_to_change_and_to_delete_entries(five: Database, statement: str, refusal: str) -> None:
    with pytest.raises(DBAPIError, match=refusal):
        run_sql(five, statement)
    assert verify(five).entries == 5


def test_postgresql_refuses_to_empty_the_table(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    schema.upgrade(database)
    with pytest.raises(DBAPIError, match="cannot be deleted"):
        run_sql(database, "TRUNCATE audit")
    database.close()


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["UPDATE audit SET who = 'operator:bo' WHERE id = 3"], "entry 3"),
        (["UPDATE audit SET what = 'other' WHERE id = 1"], "entry 1 "),
        (["UPDATE audit SET at = '2001-02-03 04:05:06' WHERE id = 3"], "entry 3 "),
        (["UPDATE audit SET evidence = '{}' WHERE id = 5"], "entry 5 "),
        (["UPDATE audit SET nonce = 'x' WHERE id = 2"], "entry 2 "),
        ([f"UPDATE audit SET incident_id = '{uuid.UUID(int=7).hex}' WHERE id = 4"], "entry 4 "),
        ([f"UPDATE audit SET hash = '{HASH}' WHERE id = 4"], "entry 4 "),
        (["DELETE FROM audit WHERE id = 1"], "entry 2 "),
        (["DELETE FROM audit WHERE id = 3"], "entry 4 does not follow entry 2"),
        (["DELETE FROM audit WHERE id = 5"], "ends with entry 4, but entry 5 "),
        (["DELETE FROM audit"], "ends with entry 0, but entry 5 "),
        (
            [
                "UPDATE audit SET id = 99 WHERE id = 2",
                "UPDATE audit SET id = 2 WHERE id = 3",
                "UPDATE audit SET id = 3 WHERE id = 99",
            ],
            "entry 2 does not follow entry 1",
        ),
        (
            [
                "INSERT INTO audit SELECT 6, at, who, what, incident_id, evidence, nonce, hash, previous_hash"
                " FROM audit WHERE id = 5"
            ],
            "entry 6 ",
        ),
        (
            [
                "UPDATE audit SET id = 7 WHERE id = 5",
                "INSERT INTO audit (id, at, who, what, evidence, nonce, previous_hash, hash)"
                " SELECT 5, at, who, what, evidence, nonce, previous_hash, hash FROM audit WHERE id = 4",
            ],
            "entry 5 ",
        ),
        (["UPDATE audit_head SET last_id = 4"], "but entry 4 was written last"),
        (["DELETE FROM audit_head"], "has 0 rows"),
        (["INSERT INTO audit_head SELECT 2, last_id, last_hash, 0, last_hash, 0 FROM audit_head"], "has 2 rows"),
        (["UPDATE audit_head SET purged_id = 2", "DELETE FROM audit WHERE id < 3"], "entry 3 "),
        (
            [
                "UPDATE audit_head SET purged_id = 2, purged_hash = (SELECT hash FROM audit WHERE id = 2)",
                "DELETE FROM audit WHERE id < 3",
            ],
            "entries up to 2 were removed, and no entry records that",
        ),
        (
            [
                "INSERT INTO audit_removed (id, previous_hash, hash)"
                " SELECT id, previous_hash, hash FROM audit WHERE id = 3",
                "DELETE FROM audit WHERE id = 3",
            ],
            "entry 3 was removed, and no entry records that",
        ),
    ],
)
def test_tampering_around_the_triggers_is_detected(five: Database, statements: list[str], named: str) -> None:
    drop_triggers(five)
    run_sql(five, *statements)
    with pytest.raises(AuditBroken) as caught:
        verify(five)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_entries_removed_by_r8scan_leave_a_valid_chain_and_an_entry(five: Database) -> None:
    with five.write() as session:
        assert audit.remove(session, AuditEntry.what.in_(("second", "fourth")), who="operator:bo") == 2
    found = verify(five)
    assert (found.entries, found.removed, found.last_id) == (4, 2, 6)
    with five.read() as session:
        entry = session.execute(select(AuditEntry).where(AuditEntry.what == audit.REMOVED)).scalar_one()
    assert (entry.who, entry.evidence) == ("operator:bo", {"ids": [2, 4]})


def test_a_transaction_that_is_rolled_back_leaves_no_entry(five: Database) -> None:
    def record_and_fail() -> None:
        with five.write() as session:
            audit.record(session, "lost", {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record_and_fail()
    assert verify(five).entries == 5


def test_an_entry_inside_a_savepoint_is_refused(database: Database) -> None:
    with pytest.raises(RuntimeError, match="savepoint"), database.write() as session, session.begin_nested():
        audit.record(session, "lost", {})


@pytest.mark.parametrize("number", [0.1, 1e2, -0.0, 1e16, 1.5e300, 2**60, 10**30, True, None, "ü\ud7ff ", [[{}]]])
def test_evidence_has_the_same_hash_before_and_after_it_was_stored(database: Database, number: object) -> None:
    with database.write() as session:
        audit.record(session, "evidence", {"number": number, "nested": {"b": [number], "a": number}})
    assert verify(database).entries == 1


def test_the_chain_is_verified_page_by_page(five: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanner.records.audit_verification.ROWS_PER_PAGE", 2)
    with five.write() as session:
        audit.remove(session, AuditEntry.id.in_((1, 2, 3)))
    found = verify(five)
    assert (found.entries, found.removed) == (3, 3)


def test_concurrent_writers_make_one_chain(database: Database) -> None:
    writers, transactions = 8, 10
    start = threading.Barrier(writers)

    def write(name: int) -> None:
        start.wait()
        for number in range(transactions):
            with database.write() as session:
                audit.record_all(session, [Entry("written", {"by": name, "n": number})] * 3)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(database).entries == writers * transactions * 3


def test_an_upgrade_puts_existing_entries_into_the_chain(postgresql_url: str, tmp_path: object) -> None:
    for url in (postgresql_url, f"sqlite:///{tmp_path}/old.db"):
        database = Database(url)
        schema.upgrade_to(database, "0007")
        run_sql(
            database,
            *(
                "INSERT INTO audit (id, at, who, what, evidence) VALUES "
                f"({number}, '2030-01-02 03:04:05.678901', 'r8scan', 'old', '{{\"n\": {number}.0}}')"
                for number in (3, 4, 9)
            ),
        )
        schema.upgrade(database)
        with database.write() as session:
            audit.record(session, "new", {})
        found = verify(database)
        assert (found.entries, found.last_id) == (4, 10)
        with database.read() as session:
            head = session.execute(select(AuditHead)).scalar_one()
        assert head.last_hash == found.last_hash
        database.close()

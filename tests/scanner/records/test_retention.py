"""Tests that old data is deleted, and that the data of an account can be erased."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import MetaData, func, select, update

from scanner.detection import Candidate, Place
from scanner.records import announcements, audit, outbox, retention
from scanner.records.announcements import DisabledToken
from scanner.records.audit import Entry
from scanner.records.audit_models import AuditEntry
from scanner.records.audit_verification import verify
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import (
    Account,
    ApiToken,
    Exposure,
    Incident,
    Notification,
    NotificationSubject,
    Sighting,
    db_now,
)
from scanner.records.outbox import OwnerNotice
from scanner.records.reading_models import ReadObject
from scanner.records.retention import AccountSelector, NotErasable
from scanner.records.states import Cause, Occasion
from scanner.records.usage_models import UsageBaseline, UsageHour
from scanner.response.places import candidate_to_json
from tests.notifications.outbox_rows import SEEN, incident, notify_operator, place, queue_owner_mail

OLD = -800 * 86400


def count(database: Database, model: type) -> int:
    with database.read() as session:
        return session.execute(select(func.count()).select_from(model)).scalar_one()


def age(database: Database, *ids: uuid.UUID) -> None:
    """Make these incidents, their public places and their mails 800 days old."""
    with database.write() as session:
        session.execute(update(Incident).where(Incident.id.in_(ids)).values(detected_at=db_now(OLD)))
        session.execute(update(Exposure).where(Exposure.incident_id.in_(ids)).values(seen_at=db_now(OLD)))
        told = select(NotificationSubject.notification_id).where(NotificationSubject.incident_id.in_(ids))
        session.execute(update(Notification).where(Notification.id.in_(told)).values(created_at=db_now(OLD)))


def forget(database: Database) -> int:
    return retention.purge_expired(database, keep_days=730)


def erase(database: Database, name: str = "", **wanted: Any) -> Counter[str]:
    return retention.erase_account(database, AccountSelector(name, **wanted), who="operator:ana")


def everything(database: Database) -> str:
    tables = MetaData()
    tables.reflect(database.engine)
    with database.engine.connect() as connection:
        return "\n".join(str(row) for table in tables.sorted_tables for row in connection.execute(select(table)))


def test_an_old_incident_is_deleted_with_its_places_and_mails(database: Database) -> None:
    old, young = incident(database, [place()]), incident(database, [place()])
    queue_owner_mail(database, old)
    queue_owner_mail(database, young, recipient="bo@acme.example")
    age(database, old)
    with database.write() as session:
        session.execute(update(Exposure).where(Exposure.incident_id == young).values(seen_at=db_now()))
        session.execute(update(Incident).where(Incident.id == young).values(detected_at=db_now()))
    assert forget(database) == 1
    assert (count(database, Incident), count(database, Exposure), count(database, Notification)) == (1, 1, 1)
    assert forget(database) == 0


def test_an_old_incident_that_was_seen_again_lately_is_kept(database: Database) -> None:
    seen = incident(database, [place(), place()])
    age(database, seen)
    with database.write() as session:
        first = select(func.min(Exposure.id)).scalar_subquery()
        session.execute(update(Exposure).where(Exposure.id == first).values(seen_at=db_now()))
    assert forget(database) == 0


@pytest.mark.parametrize("action", retention.UNFINISHED)
def test_unfinished_incidents_are_not_deleted(database: Database, action: str) -> None:
    age(database, incident(database, [place()], action=action))
    assert forget(database) == 0


def test_one_run_deletes_more_rows_than_one_transaction(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "INCIDENTS_PER_TRANSACTION", 2)
    age(database, *(incident(database, [place()]) for _ in range(5)))
    assert forget(database) == 5


def test_a_table_with_more_old_rows_than_the_others_is_emptied_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "OTHER_ROWS_PER_TRANSACTION", 2)
    record_old(database, monkeypatch, 5)
    forget(database)
    with database.read() as session:
        assert session.execute(select(AuditEntry.what)).scalars().all() == [audit.PURGED] * 3
    assert verify(database).purged == 5


def test_old_audit_entries_are_deleted_and_recent_ones_kept(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_old(database, monkeypatch, 1)
    with database.write() as session:
        audit.record(session, "young", {})
    forget(database)
    with database.read() as session:
        assert session.execute(select(AuditEntry.what).order_by(AuditEntry.id)).scalars().all() == [
            "young",
            audit.PURGED,
        ]
    assert verify(database).purged == 1


def record_old(database: Database, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Record `count` audit entries with a date 800 days ago."""
    with monkeypatch.context() as patch:
        patch.setattr(audit, "db_now", lambda: db_now(OLD))
        with database.write() as session:
            audit.record_all(session, [Entry("old", {})] * count)


def customer(database: Database, name: str, *, live: bool = False) -> uuid.UUID:
    """Create an account with a row in every table. Return the id of its incident."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    with database.write() as session:
        account = Account(name=name, created_at=db_now())
        session.add(account)
        session.flush()
        at = None if live else db_now()
        token: Any = ApiToken(digest=digest, name=f"{name} ci", account_id=account.id, created_at=db_now())
        token.disabled_at = at
        session.add(token)
        account_id = str(account.id)
    erased = incident(
        database, [place()], digest=digest, account_id=account_id, account_name=name, token_name=f"{name} ci"
    )
    queue_owner_mail(database, erased, recipient=f"{name}@customers.example")
    notify_operator(database, Occasion.UNDELIVERABLE, erased)
    with database.write() as session:
        audit.record(session, "token_added", {"digest": digest, "name": name})
        audit.record(session, "mail_sent", {"recipient": f"{name}@customers.example"}, incident_id=erased)
        session.add(UsageHour(digest=digest, hour=db_now(), networks=[name]))
        session.add(UsageBaseline(digest=digest))
        session.add(
            Report(
                digest=digest, sign="s", idempotency_key="k", note=name, reporter="r", received_at=db_now(),
                next_check_at=db_now(),
            )
        )  # fmt: skip
        columns = {key: value for key, value in place(path=name).items() if key != "seen_at"}
        session.add(
            Sighting(digest=digest, hint="", state="unknown", seen_at=db_now(), next_check_at=db_now(), **columns)
        )
        frozen = update(Notification).where(Notification.channel == "operator", Notification.facts.is_(None))
        session.execute(frozen.values(state="frozen", facts={"tokens": [name]}))
        stopped = [
            DisabledToken(digest, name, Cause.PUBLIC_REPOSITORY, SEEN, erased),
            DisabledToken(digest, name, Cause.OPERATOR, SEEN),
        ]
        announcements.announce(session, stopped, announcements.CHANNELS)
        number = account.id
        old = db_now(-3 * 86400)
        session.add(ReadObject(kind="file", key=str(number), hits=hits(digest), read_at=db_now()))
        session.add(ReadObject(kind="blob", key=str(number), hits=hits("f" * 64, digest), read_at=old))
    return erased


def hits(*digests: str) -> list[Any]:
    where = Place("file", "https://github.com/a/b", "a/b")
    return [candidate_to_json(Candidate(digest, "", where)) for digest in digests]


def test_erasing_an_account_leaves_none_of_its_data_and_all_of_others(database: Database) -> None:
    customer(database, "erased-customer")
    customer(database, "other-customer")
    before = everything(database).count("other-customer")
    erased = erase(database, "erased-customer")
    after = everything(database)
    assert "erased-customer" not in after
    assert hashlib.sha256(b"erased-customer").hexdigest() not in after
    assert after.count("other-customer") == before
    assert erased["incidents"] == 1
    assert erased["reports"] == 1
    assert verify(database).removed == erased["audit"] > 0
    with database.read() as session:
        entry = session.execute(select(AuditEntry).where(AuditEntry.what == "account_erased")).scalar_one()
    assert (entry.who, entry.evidence["incidents"]) == ("operator:ana", 1)


def test_objects_with_an_erased_token_are_read_again(database: Database) -> None:
    customer(database, "erased-customer")
    with database.write() as session:
        session.add(ReadObject(kind="blob", key="other", hits=hits("f" * 64), read_at=db_now()))
        session.add(ReadObject(kind="blob", key="empty", hits=[], read_at=db_now(-10 * 86400)))
    erase(database, "erased-customer")
    with database.read() as session:
        kept = session.execute(select(ReadObject.hits).order_by(ReadObject.key)).scalars().all()
    assert kept == [None, None, [], hits("f" * 64)]


def test_an_account_whose_tokens_work_is_not_erased(database: Database) -> None:
    customer(database, "busy-customer", live=True)
    before = everything(database)
    with pytest.raises(NotErasable, match="1 of the account's tokens still work"):
        erase(database, "busy-customer")
    assert everything(database) == before


def test_an_account_that_waits_for_a_disable_is_not_erased(database: Database) -> None:
    erased = customer(database, "busy-customer")
    with database.write() as session:
        session.execute(update(Incident).where(Incident.id == erased).values(action="disabling"))
    with pytest.raises(NotErasable, match="waits to be disabled"):
        erase(database, "busy-customer")


def test_an_account_known_only_from_incidents_is_erased(database: Database) -> None:
    erased = incident(database, [place()], account_id="remote-7", account_name="Remote")
    with database.write() as session:
        news = OwnerNotice("remote-7", ("r@remote.example",), Occasion.DISABLED, (erased,))
        outbox.notify_owners(session, [news], window=0, domain="d")
    assert erase(database, id="remote-7", is_in_our_tables=False)["incidents"] == 1
    assert "r@remote.example" not in everything(database)


def test_an_ambiguous_account_name_erases_nothing(database: Database) -> None:
    for account_id in ("7", "9"):
        incident(database, account_id=account_id, account_name="Remote")
    with pytest.raises(NotErasable, match=r"2 accounts have had this name \(7, 9\): select one with --id"):
        erase(database, "Remote", is_in_our_tables=False)
    assert count(database, Incident) == 2
    assert erase(database, id="9", is_in_our_tables=False)["incidents"] == 1
    assert erase(database, "Remote", is_in_our_tables=False)["incidents"] == 1


def test_an_account_id_of_another_store_erases_no_account_of_ours(database: Database) -> None:
    customer(database, "own-customer")
    with pytest.raises(NotErasable, match="keeps no data of such an account"):
        erase(database, id="2", is_in_our_tables=False)
    erase(database, id="1", is_in_our_tables=False)
    assert count(database, Account) == 1


def test_an_account_that_once_had_the_name_is_not_erased(database: Database) -> None:
    customer(database, "acme-weather")
    with database.write() as session:
        session.execute(update(Account).values(name="acme-climate"))
    with pytest.raises(NotErasable, match="keeps no data of such an account"):
        erase(database, "acme-weather")
    customer(database, "acme-weather-2")
    with database.write() as session:
        session.execute(update(Account).where(Account.name == "acme-weather-2").values(name="acme-weather"))
    assert erase(database, "acme-weather")["incidents"] == 1
    with database.read() as session:
        assert session.execute(select(Account.name)).scalars().all() == ["acme-climate"]
        assert session.execute(select(Incident.account_id)).scalars().all() == ["1"]


def test_erasing_an_unknown_account_is_an_error(database: Database) -> None:
    with pytest.raises(NotErasable, match="keeps no data of such an account"):
        erase(database, "nobody")

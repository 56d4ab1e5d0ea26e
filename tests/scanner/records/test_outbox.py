"""Tests that mails to many owners are queued with few SQL statements, and that each owner gets one mail."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select

from scanner.records import outbox
from scanner.records.database import Database
from scanner.records.models import Notification, NotificationSubject, db_now
from scanner.records.outbox import OwnerNotice
from scanner.records.states import Occasion
from tests.notifications.outbox_rows import Post, deliver, incident


def tell(database: Database, news: Sequence[OwnerNotice], window: float = 0) -> None:
    with database.write() as session:
        outbox.notify_owners(session, news, window=window, domain="vendor.example")


def owner(number: int, incident_id: uuid.UUID, occasion: Occasion = Occasion.DISABLED) -> OwnerNotice:
    return OwnerNotice(str(number), (f"Owner{number}@acme.example",), occasion, (incident_id,))


def told(database: Database) -> dict[str, int]:
    """Return the number of incidents that were reported to each recipient by mail."""
    with database.read() as session:
        rows = session.execute(
            select(Notification.recipient, func.count(NotificationSubject.id))
            .join(NotificationSubject, NotificationSubject.notification_id == Notification.id)
            .group_by(Notification.recipient)
        )
        return {str(recipient): count for recipient, count in rows}


def test_notifying_many_owners_again_changes_nothing(database: Database) -> None:
    one, other = incident(database), incident(database)
    news = [owner(number, one) for number in range(5)] + [
        owner(2, other),
        OwnerNotice("9", (), Occasion.DISABLED, (one,)),
    ]
    for _ in range(2):
        tell(database, news)
    assert told(database) == {f"Owner{n}@acme.example": 1 + (n == 2) for n in range(5)} | {"None": 1}
    with database.read() as session:
        states = dict(list(session.execute(select(Notification.state, func.count()).group_by(Notification.state))))
    assert states == {"pending": 5, "failed": 1}


def test_an_address_in_two_spellings_and_two_occasions_gets_one_mail(database: Database) -> None:
    one = incident(database)
    encodings = ("ana@acme.example", "Ana@acme.example")
    tell(
        database,
        [
            OwnerNotice("1", encodings, Occasion.DISABLED, (one,)),
            OwnerNotice("1", encodings[1:], Occasion.ALREADY_DISABLED, (one,)),
        ],
    )
    assert sorted(told(database).values()) == [2]


@pytest.mark.parametrize(("first", "then", "due_in"), [(600, 10, 10), (10, 600, 10)])
def test_a_mail_is_due_by_the_shorter_window(database: Database, first: float, then: float, due_in: float) -> None:
    for window in (first, then):
        tell(database, [owner(1, incident(database))], window)
    with database.read() as session:
        row, now = session.execute(select(Notification, db_now())).one()
    assert (row.next_attempt_at - now).total_seconds() == pytest.approx(due_in, abs=5)


def test_transactions_that_notify_the_same_owners_do_not_deadlock(database: Database) -> None:
    incidents = [incident(database) for _ in range(8)]
    errors: list[BaseException] = []

    def write(chance: random.Random) -> None:
        try:
            for incident_id in incidents:
                numbers = list(range(12))
                chance.shuffle(numbers)
                tell(database, [owner(number, incident_id) for number in numbers])
        except BaseException as err:  # noqa: BLE001 - the test reports any exception of the thread
            errors.append(err)

    post = Post()
    threads = [threading.Thread(target=write, args=(random.Random(seed),)) for seed in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        deliver(database, post)
    for thread in threads:
        thread.join()
    deliver(database, post)
    assert errors == []
    assert told(database) == {f"Owner{number}@acme.example": len(incidents) for number in range(12)}

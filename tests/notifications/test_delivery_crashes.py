"""Tests that each mail is sent once if a delivery crashes or if two run at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from notifications import delivery
from notifications.backoff import MAX_MAIL_ATTEMPTS
from notifications.email.gathering import Gathering
from notifications.email.transport import Envelope
from notifications.email.transports import transport_for
from scanner.records.database import Database
from scanner.records.models import Notification
from tests.notifications.mail_server import Mailbox, mail_server
from tests.notifications.outbox_rows import OPERATOR, Post, deliver, leak, make_due, newest, row


def test_a_worker_that_loses_its_lease_writes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    notification_id = leak(database)

    class Slow(Post):
        def send(self, envelope: Envelope, *, deadline: float) -> None:
            super().send(envelope, deadline=deadline)
            with database.write() as session:
                session.execute(update(Notification).values(attempts=Notification.attempts + 1, error="the other's"))

    other = leak(database, "zoe@acme.example")
    report = deliver(database, Slow(), limit=1)
    assert (report.lost, report.sent) == (1, 0)
    assert {row(database, one).state for one in (notification_id, other)} == {"frozen", "pending"}
    assert row(database, notification_id).error == "the other's"


def test_two_deliverers_at_once_send_each_mail_once(database: Database) -> None:
    rows = [leak(database, f"owner{number}@acme.example") for number in range(12)]
    posts = [Post(), Post()]
    start = threading.Barrier(2)
    errors: list[BaseException] = []

    def work(post: Post) -> None:
        try:
            start.wait(10)
            deliver(database, post)
        except BaseException as err:
            errors.append(err)
            raise

    threads = [threading.Thread(target=work, args=(post,)) for post in posts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    sent = [one.message_id for post in posts for one in post.taken]
    assert len(sent) == len(set(sent)) == 12
    assert {row(database, one).state for one in rows} == {"sent"}


class Killed(BaseException):
    """A simulated kill -9. It is a BaseException, so that `except Exception` does not catch it."""


def test_a_crash_between_acceptance_and_commit_repeats_the_same_message(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notification_id = leak(database)
    mailbox = Mailbox()

    def die(*_: object) -> None:
        raise Killed

    transports = [transport_for(f"maildir://{tmp_path}/mail")]
    with mail_server(mailbox) as port:
        transports.append(transport_for(f"smtp://127.0.0.1:{port}"))
        for transport in transports:
            with monkeypatch.context() as patch:
                patch.setattr(delivery, "_record_sent", die)
                with pytest.raises(Killed):
                    deliver(database, transport)
            assert row(database, notification_id).state == "frozen"
            assert deliver(database, transport).claimed == 0  # the dead worker's claim of the mail has not expired yet
            make_due(database, notification_id)
        assert deliver(database, transports[1]).sent == 1
    assert [message["Message-ID"] for message in mailbox.messages] == [row(database, notification_id).message_id] * 2
    assert len(list((tmp_path / "mail/new").iterdir())) == 1


@pytest.mark.parametrize("where", ["facts_of", "render", "compose"])
def test_a_mail_is_sent_once_after_a_crash_before_sending(
    database: Database, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    notification_id = leak(database)

    def die(*_: object, **__: object) -> None:
        raise Killed

    post = Post()
    with monkeypatch.context() as patch:
        patch.setattr(Gathering if where == "facts_of" else delivery, where, die)
        with pytest.raises(Killed):
            deliver(database, post)
    make_due(database, notification_id)
    assert deliver(database, post).sent == 1
    assert len(post.taken) == 1


def test_a_row_that_kills_its_worker_each_time_is_failed(database: Database) -> None:
    notification_id = leak(database)
    with database.write() as session:
        session.execute(update(Notification).values(attempts=MAX_MAIL_ATTEMPTS))
    post = Post()
    assert deliver(database, post).failed == 1
    assert row(database, notification_id).error == f"gave up after {MAX_MAIL_ATTEMPTS} attempts"
    assert post.tried == []
    assert row(database, newest(database, "operator", OPERATOR)).state == "pending"


@pytest.mark.parametrize("where", ["together", "facts_of", "render", "compose"])
def test_a_mail_that_cannot_be_rendered_delays_no_other_mail(
    database: Database, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    broken, fine = leak(database, "a@acme.example"), leak(database, "b@acme.example")
    owner: Any = delivery if where in ("render", "compose") else Gathering
    name = "__init__" if where == "together" else where
    real = getattr(owner, name)
    tripped: list[bool] = []

    def trip(*values: Any, **options: Any) -> Any:
        if not tripped:
            tripped.append(True)
            raise RuntimeError("boom")
        return real(*values, **options)

    monkeypatch.setattr(owner, name, trip)
    report = deliver(database, Post())
    if where == "together":  # r8scan then reads the rows one by one
        assert report.sent == 2
        return
    assert (report.sent, report.deferred) == (1, 1)
    assert {row(database, broken).state, row(database, fine).state} == {"frozen", "sent"}
    for one in (broken, fine):
        make_due(database, one)
    assert deliver(database, Post()).sent == 1


def test_unreadable_facts_delay_no_other_mail(database: Database) -> None:
    broken, fine = leak(database, "a@acme.example"), leak(database, "b@acme.example")
    with database.write() as session:
        session.execute(update(Notification).where(Notification.id == broken).values(facts={"tokens": [3]}))
    assert deliver(database, Post()).sent == 1
    assert row(database, fine).state == "sent"
    assert "cannot be read" in str(row(database, broken).error)


def test_a_short_outage_of_the_database_after_sending_is_waited_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    notification_id = leak(database)
    post = Post()
    real = database.write
    naps: list[float] = []

    @contextmanager
    def write() -> Iterator[Any]:
        if post.taken and len(naps) < 2:
            raise OperationalError("UPDATE", {}, Exception("away"))
        with real() as session:
            yield session

    monkeypatch.setattr(database, "write", write)
    monkeypatch.setattr(time, "sleep", naps.append)
    assert deliver(database, post).sent == 1
    assert len(naps) == 2
    assert row(database, notification_id).state == "sent"

"""Tests that mails wait while the mail server is unavailable or slow, and are sent when it works again."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from notifications import backoff, claiming, delivery
from notifications.backoff import MAIL_BACKOFF_SECONDS, mail_backoff
from notifications.email.transport import (
    Envelope,
    TransientFailure,
    TransportDown,
)
from scanner.records import leases
from scanner.records.database import Database
from scanner.records.models import Notification, db_now
from scanner.records.states import NotificationState
from tests.notifications.delivering import Doing, seconds_until_next
from tests.notifications.outbox_rows import (
    Post,
    deliver,
    incident,
    leak,
    make_due,
    place,
    queue_owner_mail,
    row,
)


def test_a_transient_failure_is_retried_with_growing_delays(database: Database) -> None:
    notification_id = leak(database)
    for attempt, expected in enumerate((*MAIL_BACKOFF_SECONDS, 3600, 3600), start=1):
        report = deliver(database, Post({"*": TransientFailure("450 greylisted")}))
        assert (report.deferred, report.failed) == (1, 0)
        told = row(database, notification_id)
        assert (told.state, told.error, told.attempts) == ("frozen", "450 greylisted", attempt)
        assert seconds_until_next(database, notification_id) == pytest.approx(expected, abs=5)
        assert deliver(database, Post()).claimed == 0
        make_due(database, notification_id)
    assert deliver(database, Post()).sent == 1
    assert row(database, notification_id).error is None


def test_the_backoff_has_jitter_and_stays_below_the_longest_delay() -> None:
    delays = {mail_backoff(3, backoff.random_jitter()) for _ in range(200)}
    assert len(delays) > 20
    assert all(48 <= delay <= 72 for delay in delays)
    assert mail_backoff(10_000, 1.2) < leases.MAX_DELAY_SECONDS


def test_a_mail_that_waited_for_the_service_itself_is_still_sent(database: Database) -> None:
    notification_id = leak(database)
    with database.write() as session:
        session.execute(update(Notification).values(created_at=db_now(-30 * 86400)))
    assert deliver(database, Post()).sent == 1
    assert row(database, notification_id).state == "sent"


def test_an_unavailable_server_is_asked_once_per_run(database: Database) -> None:
    rows = [leak(database, f"owner{number}@acme.example") for number in range(4)]
    post = Post({"*": TransportDown("cannot reach the mail server")})
    report = deliver(database, post)
    assert (len(post.tried), report.deferred, report.held_back) == (1, 1, 3)
    assert deliver(database, post).claimed == 0
    for one in rows:
        told = row(database, one)
        assert told.error == "no mail can be sent: cannot reach the mail server"
        assert seconds_until_next(database, one) > 5
        make_due(database, one)
    assert deliver(database, Post()).sent == 4


def test_a_mail_asks_an_unavailable_server_again_within_a_minute_but_not_for_days(database: Database) -> None:
    one = leak(database)
    post = Post({"*": TransportDown("421 not accepting messages")})
    for _ in range(8):
        deliver(database, post)
        assert seconds_until_next(database, one) <= backoff.MAX_SOON_SECONDS
        make_due(database, one)
    with database.write() as session:
        session.execute(update(Notification).values(attempts=backoff.MAX_SOON_ATTEMPTS))
    deliver(database, post)
    assert seconds_until_next(database, one) > 1800
    hourly = backoff.GIVE_UP_AFTER.total_seconds() / MAIL_BACKOFF_SECONDS[-1]
    assert backoff.MAX_SOON_ATTEMPTS + 1.25 * hourly < backoff.MAX_MAIL_ATTEMPTS


def test_a_mail_that_waits_for_the_server_still_takes_further_incidents(database: Database) -> None:
    leak(database, "first@acme.example")
    waiting = leak(database, "second@acme.example")
    deliver(database, Post({"*": TransportDown("away")}))
    assert row(database, waiting).state == "pending"
    assert queue_owner_mail(database, incident(database, [place()]), recipient="second@acme.example") == waiting


def test_sending_ends_early_enough_to_record_the_outcome() -> None:
    assert delivery.SEND_SECONDS + claiming.RECORD_SECONDS < leases.LEASE_SECONDS
    assert claiming.RECORD_SECONDS > delivery.MAX_RECORD_ATTEMPTS


def test_leases_are_renewed_while_a_server_is_slow_and_lost_rows_are_skipped(database: Database) -> None:
    rows = [leak(database, f"owner{number}@acme.example") for number in range(6)]

    def lose(envelope: Envelope) -> None:
        """Change the row of the last mail, as if another worker had claimed it."""
        assert envelope.recipient != "owner5@acme.example"
        with database.write() as session:
            session.execute(update(Notification).where(Notification.id == rows[5]).values(attempts=2))

    post = Doing(3, lose)
    # Allow a whole lease for sending one mail. The claims of the remaining mails must then be extended after each mail.
    report = deliver(database, post, send_seconds=leases.LEASE_SECONDS)
    assert (report.claimed, report.sent) == (5, 5)
    assert [row(database, one).state for one in rows] == ["sent"] * 5 + ["frozen"]


def test_mails_that_an_outage_held_back_are_sent_later_with_fresh_facts(database: Database) -> None:
    rows = [leak(database, f"owner{number}@acme.example") for number in range(5)]

    def down(_: Envelope) -> None:
        raise TransportDown("the server went away")

    post = Doing(3, down)
    report = deliver(database, post)
    assert (report.sent, report.deferred, report.held_back) == (2, 1, 2)
    waiting = [row(database, one) for one in rows if row(database, one).state == "frozen"]
    assert [one.facts is None for one in waiting] == [False, True, True]
    for one in waiting:
        make_due(database, one.id)
    assert deliver(database, Post()).sent == 3


def test_an_unavailable_server_freezes_only_the_first_mail_of_a_run(database: Database) -> None:
    rows = [leak(database, f"owner{number}@acme.example") for number in range(30)]
    deliver(database, Post({"*": TransportDown("away")}))
    states = [row(database, one).state for one in rows]
    assert (states.count(NotificationState.FROZEN), states.count(NotificationState.PENDING)) == (1, 29)

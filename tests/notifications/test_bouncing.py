"""Tests that a bounced mail is recorded as failed and reported to the operator once."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import event, func, select, update

from notifications import bouncing
from notifications.bouncing import BounceOutcome
from notifications.email.bounces import read_bounce
from scanner.records.audit_models import AuditEntry
from scanner.records.database import Database
from scanner.records.models import Notification, db_now
from scanner.records.states import Occasion
from tests.notifications.outbox_rows import (
    IDENTITY,
    OPERATOR,
    Post,
    deliver,
    facts_of,
    incident,
    leak,
    make_due,
    newest,
    notify_operator,
    place,
    queue_owner_mail,
    row,
)
from tests.notifications.returned_mail import REASON, bounce


def enable_again(database: Database, notification_id: uuid.UUID, **values: str) -> BounceOutcome:
    content = bounce(row(database, notification_id).message_id, **values)  # type: ignore[arg-type]  # all are text
    return bouncing.record(database, read_bounce(content), IDENTITY)


def sent(database: Database, recipient: str = "ana@acme.example") -> uuid.UUID:
    notification_id = leak(database, recipient)
    assert deliver(database, Post()).sent == 1
    return notification_id


def operators_mails(database: Database) -> int:
    with database.read() as session:
        return session.execute(select(func.count()).where(Notification.channel == "operator")).scalar_one()


def test_a_returned_mail_is_visibly_failed_and_the_operator_learns_why(database: Database) -> None:
    notification_id = sent(database)
    assert enable_again(database, notification_id) is BounceOutcome.FAILED
    told = row(database, notification_id)
    assert (told.state, told.error) == ("failed", f"bounced: 5.1.1 {REASON}")
    assert told.sent_at is not None
    with database.read() as session:
        entries = session.execute(select(AuditEntry.what, AuditEntry.evidence).order_by(AuditEntry.id)).all()
    assert [what for what, _ in entries] == ["mail_sent", "mail_bounced"]
    assert (entries[1][1]["recipient"], entries[1][1]["error"]) == ("ana@acme.example", told.error)
    digest = newest(database, "operator", OPERATOR)
    make_due(database, digest)
    post = Post()
    deliver(database, post)
    content = post.taken[0].content.replace(b"=\r\n", b"").decode()
    assert "bounced: 5.1.1 550 5.1.1" in content
    assert "ana@acme[.]example" in content


def test_a_repeated_bounce_notifies_nobody(database: Database) -> None:
    notification_id = sent(database)
    outcomes = [enable_again(database, notification_id) for _ in range(2)]
    assert outcomes == [BounceOutcome.FAILED, BounceOutcome.UNCHANGED]
    assert operators_mails(database) == 1


def test_a_notification_of_a_delay_changes_nothing(database: Database) -> None:
    notification_id = sent(database)
    assert enable_again(database, notification_id, action="delayed", status="4.4.1") is BounceOutcome.UNCHANGED
    assert (row(database, notification_id).state, operators_mails(database)) == ("sent", 0)


def test_a_bounce_before_the_sending_is_recorded_is_retried_by_the_mail_server(database: Database) -> None:
    notification_id = sent(database)
    with database.write() as session:
        session.execute(update(Notification).values(state="frozen"))
    assert enable_again(database, notification_id) is BounceOutcome.EARLY
    with database.write() as session:
        session.execute(update(Notification).values(state="sent"))
    assert enable_again(database, notification_id) is BounceOutcome.FAILED


@pytest.mark.parametrize(
    "message_id", ["<{id}@elsewhere.example>", "<{other}@vendor.example>", "<not-ours@vendor.example>"]
)
def test_a_bounce_of_a_mail_that_is_not_ours_is_reported_as_unknown(database: Database, message_id: str) -> None:
    notification_id = sent(database)
    content = bounce(message_id.format(id=notification_id, other=uuid.uuid4()))
    assert bouncing.record(database, read_bounce(content), IDENTITY) is BounceOutcome.UNKNOWN
    assert row(database, notification_id).state == "sent"


def test_a_returned_mail_to_the_operator_is_visible_and_queues_no_other_mail(database: Database) -> None:
    notification_id = notify_operator(database, Occasion.PROTECTED, incident(database, [place()], disabled_at=None))
    deliver(database, Post())
    assert enable_again(database, notification_id) is BounceOutcome.FAILED
    assert operators_mails(database) == 1


def test_unreachable_owners_are_reported_in_one_mail_a_day(database: Database) -> None:
    came_back = [sent(database, f"{name}@acme.example") for name in ("ana", "bob", "eve")]
    for notification_id in came_back[:2]:
        enable_again(database, notification_id)
    digest = newest(database, "operator", OPERATOR)
    with database.read() as session:
        now = session.execute(select(db_now())).scalar_one()
    assert (row(database, digest).next_attempt_at - now).total_seconds() < 11, "the first is reported at once"
    assert facts_of(database, digest).tokens_total == 2
    make_due(database, digest)
    assert deliver(database, Post()).sent == 1
    enable_again(database, came_back[2])
    assert newest(database, "operator", OPERATOR) != digest


def test_a_recipient_that_fails_days_after_another_is_reported_too(database: Database) -> None:
    incident_id = incident(database, [place()])
    rows = [queue_owner_mail(database, incident_id, recipient=f"{name}@acme.example") for name in ("ana", "bob")]
    assert deliver(database, Post()).sent == 2
    enable_again(database, rows[0])
    first = newest(database, "operator", OPERATOR)
    make_due(database, first)
    deliver(database, Post())
    enable_again(database, rows[1])
    second = newest(database, "operator", OPERATOR)
    assert second != first
    assert [one.recipient for one in facts_of(database, second).tokens[0].undelivered] == [
        "ana@acme.example",
        "bob@acme.example",
    ]


def test_an_urgent_incident_does_not_wait_for_the_daily_mail(database: Database) -> None:
    enable_again(database, sent(database))
    notify_operator(database, Occasion.PROTECTED, incident(database, [place()], disabled_at=None))
    post = Post()
    assert deliver(database, post).sent == 1
    assert b"protected token" in post.taken[0].content


def test_a_crash_at_any_statement_leaves_a_mail_sent_or_failed_and_reported(database: Database) -> None:
    notification_id = sent(database)
    seen: list[int] = []

    class Killed(BaseException):
        pass

    def die_at(number: int) -> None:
        def count(*_: object) -> None:
            seen.append(1)
            if len(seen) == number:
                raise Killed

        event.listen(database.engine, "before_cursor_execute", count)
        try:
            enable_again(database, notification_id)
        finally:
            event.remove(database.engine, "before_cursor_execute", count)

    for number in range(2, 40):
        seen.clear()
        try:
            die_at(number)
        except Killed:
            assert (row(database, notification_id).state, operators_mails(database)) == ("sent", 0)
        else:
            break
    assert number > 5
    assert (row(database, notification_id).state, operators_mails(database)) == ("failed", 1)

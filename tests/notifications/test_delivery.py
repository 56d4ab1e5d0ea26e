"""Tests that mails are delivered even if the mail server, the operator's templates or other workers fail."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update

from notifications import claiming
from notifications.claiming import Claimed
from notifications.delivery import DeliveryReport
from notifications.email.transport import (
    Envelope,
    PermanentFailure,
    TransientFailure,
)
from notifications.email.transports import transport_for
from notifications.email.unlinked import unlinked
from scanner.records import outbox
from scanner.records.audit_models import AuditEntry
from scanner.records.database import Database
from scanner.records.models import Exposure, Incident, Notification, NotificationSubject, db_now
from scanner.records.states import Occasion
from tests.notifications.delivering import Doing, seconds_until_next
from tests.notifications.mail_server import Mailbox, mail_server
from tests.notifications.outbox_rows import (
    IDENTITY,
    OPERATOR,
    OWNER,
    Post,
    deliver,
    incident,
    leak,
    make_due,
    newest,
    notify_operator,
    place,
    queue_owner_mail,
    row,
)


def test_a_mail_that_is_due_goes_out_once_and_is_recorded(database: Database) -> None:
    mailbox = Mailbox()
    notification_id = leak(database)
    with mail_server(mailbox) as port:
        transport = transport_for(f"smtp://127.0.0.1:{port}")
        report = deliver(database, transport)
        assert (report.claimed, report.sent) == (1, 1)
        assert deliver(database, transport) == DeliveryReport()
    message = mailbox.messages[0]
    told = row(database, notification_id)
    assert (told.state, told.error, told.leased_until, told.attempts) == ("sent", None, None, 1)
    assert told.sent_at is not None
    assert message["Message-ID"] == told.message_id
    assert message["To"] == OWNER
    assert "src/app.py" in message.get_body(("plain",)).get_content()  # type: ignore[union-attr]  # the mail has a text part
    assert len(mailbox.messages) == 1


def test_a_mail_that_is_not_due_yet_waits_for_more_incidents(database: Database) -> None:
    notification_id = leak(database)
    with database.write() as session:
        session.execute(update(Notification).values(next_attempt_at=db_now(5)))
    assert deliver(database, Post()).claimed == 0
    assert queue_owner_mail(database, incident(database, [place()])) == notification_id
    make_due(database, notification_id)
    post = Post()
    deliver(database, post)
    assert len(post.taken) == 1
    assert b"2 of your Replicate API tokens" in post.taken[0].content


def test_an_incident_after_a_mail_was_frozen_starts_a_new_mail(database: Database) -> None:
    first = leak(database)
    deliver(database, Post({"*": TransientFailure("later")}))
    second = leak(database)
    assert second != first
    facts = row(database, first).facts
    make_due(database, first)
    post = Post()
    deliver(database, post)
    assert row(database, first).facts == facts
    assert sorted(one.message_id for one in post.taken) == sorted(
        row(database, one).message_id for one in (first, second)
    )


def test_facts_stay_as_frozen_whatever_happens_to_the_rows(database: Database) -> None:
    notification_id = leak(database)
    deliver(database, Post({"*": TransientFailure("later")}))
    with database.write() as session:
        session.execute(update(Incident).values(token_name="renamed"))
    make_due(database, notification_id)
    post = Post()
    deliver(database, post)
    assert b"renamed" not in post.taken[0].content


def test_a_mail_fails_visibly_after_three_days_and_the_operator_is_notified(database: Database) -> None:
    notification_id = leak(database)
    deliver(database, Post({"*": TransientFailure("450 later")}))
    facts = dict(row(database, notification_id).facts or {})
    for age, state in (("2.9", "frozen"), ("3.1", "failed")):
        with database.write() as session:
            frozen_at = session.execute(select(db_now(-float(age) * 86400))).scalar_one()
            session.execute(
                update(Notification)
                .where(Notification.id == notification_id)
                .values(facts={**facts, "frozen_at": frozen_at.isoformat()}, created_at=frozen_at)
            )
        make_due(database, notification_id)
        deliver(database, Post({"*": TransientFailure("450 later")}))
        assert row(database, notification_id).state == state
    assert row(database, notification_id).error == "gave up after 3 days: 450 later"
    post = Post()
    make_due(database, newest(database, "operator", OPERATOR))
    deliver(database, post)
    assert post.taken[0].recipient == OPERATOR
    assert unlinked(OWNER).encode() in post.taken[0].content


def test_a_refused_owners_mail_fails_permanently_and_the_operator_is_notified_once(database: Database) -> None:
    refused = [leak(database, f"{name}@acme.example") for name in ("ana", "bob")]
    other = leak(database, "eve@acme.example")
    post = Post({"ana@acme.example": PermanentFailure("550 gone"), "bob@acme.example": PermanentFailure("550 gone")})
    report = deliver(database, post)
    assert (report.sent, report.failed) == (1, 2)
    assert [row(database, one).state for one in (*refused, other)] == ["failed", "failed", "sent"]
    operator = newest(database, "operator", OPERATOR)
    assert row(database, operator).state == "pending"
    make_due(database, operator)
    deliver(database, post)
    content = post.taken[-1].content.decode()
    assert "ana@acme[.]example" in content
    assert "bob@acme[.]example" in content
    with database.read() as session:
        assert session.execute(select(func.count()).where(Notification.channel == "operator")).scalar_one() == 1


def test_an_undelivered_mail_is_visible_without_an_operator_address(database: Database) -> None:
    leak(database)
    deliver(database, Post({"*": PermanentFailure("550 gone")}), replace(IDENTITY, operator_email=None))
    with database.read() as session:
        failed = session.execute(select(Notification).where(Notification.state == "failed")).scalars().all()
        assert sorted(one.channel for one in failed) == ["email", "operator"]


def test_a_refused_operator_does_not_start_a_mail_about_itself(database: Database) -> None:
    notification_id = notify_operator(database, Occasion.PROTECTED, incident(database, [place()], disabled_at=None))
    deliver(database, Post({"*": PermanentFailure("550 gone")}))
    assert row(database, notification_id).state == "failed"
    with database.read() as session:
        assert session.execute(select(func.count()).select_from(NotificationSubject)).scalar_one() == 1


@pytest.mark.parametrize("recipient", ["not an address", "a@b@c d", "evil@x.example\r\nBcc: all@y.example"])
def test_a_malformed_address_fails_permanently(database: Database, recipient: str) -> None:
    notification_id = leak(database, recipient)
    post = Post()
    deliver(database, post)
    assert row(database, notification_id).state == "failed"
    assert post.tried == []


def test_a_wrong_sender_setting_loses_no_owners_mail(database: Database) -> None:
    notification_id = leak(database)
    deliver(database, Post(), replace(IDENTITY, sender="nobody"))
    told = row(database, notification_id)
    assert told.state == "frozen"
    assert "R8SCAN_EMAIL_FROM" in str(told.error)
    make_due(database, notification_id)
    assert deliver(database, Post()).sent == 1


def test_a_broken_custom_template_is_reported_with_the_sent_mail(database: Database, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/body.txt").write_text("{{ nothing_of_that_name }}")
    notification_id = leak(database)
    assert deliver(database, Post(), replace(IDENTITY, template_dir=tmp_path)).sent == 1
    told = row(database, notification_id)
    assert told.state == "sent"
    assert "custom templates not used" in str(told.error)


def test_no_more_mails_are_sent_a_minute_than_allowed(database: Database) -> None:
    for number in range(5):
        leak(database, f"owner{number}@acme.example")
    assert deliver(database, Post(), rate=3).sent == 3
    assert deliver(database, Post(), rate=3).sent == 0
    with database.write() as session:
        session.execute(update(Notification).where(Notification.state == "sent").values(next_attempt_at=db_now(-61)))
    assert deliver(database, Post(), rate=3).sent == 2


def test_rows_of_other_channels_are_left_alone(database: Database) -> None:
    notification_id = leak(database)
    with database.write() as session:
        session.execute(update(Notification).values(channel="webhook"))
    assert deliver(database, Post()).claimed == 0
    assert row(database, notification_id).attempts == 0


def test_every_recipient_of_an_account_gets_the_mail_once_even_if_others_fail(
    database: Database,
) -> None:
    people = [f"{name}@acme.example" for name in ("ana", "bob", "eve", "zoe")]
    incident_id = incident(database, [place()])
    for _ in range(2):  # the second time, the token is found again, and no mail is queued
        for person in people:
            queue_owner_mail(database, incident_id, recipient=person)
    mailbox = Mailbox(answers={people[1]: "550 5.1.1 no such mailbox", people[2]: "450 4.2.1 try later"})
    with mail_server(mailbox) as port:
        transport = transport_for(f"smtp://127.0.0.1:{port}")
        report = deliver(database, transport)
        assert (report.sent, report.failed, report.deferred) == (2, 1, 1)
        del mailbox.answers[people[2]]
        make_due(database, newest(database, "email", people[2]))
        assert deliver(database, transport).sent == 1
    assert sorted(mailbox.recipients) == [people[0], people[2], people[3]]
    assert len({message["Message-ID"] for message in mailbox.messages}) == 3
    assert mailbox.connections == 2  # one connection for each run
    assert seconds_until_next(database, newest(database, "operator", OPERATOR)) < 11


def test_the_first_undeliverable_owner_is_reported_at_once_and_the_next_ones_a_day_later(database: Database) -> None:
    def report() -> uuid.UUID:
        incident_id = incident(database, [place()])
        with database.write() as session:
            outbox.notify_operator(session, [incident_id], Occasion.UNDELIVERABLE, OPERATOR, window=10)
        return newest(database, "operator", OPERATOR)

    first = report()
    assert report() == first, "those of the first seconds are in the first mail"
    assert seconds_until_next(database, first) < 11
    make_due(database, first)
    assert deliver(database, Post()).sent == 1
    with database.write() as session:
        session.execute(update(Notification).values(created_at=db_now(-3600)))
    second = report()
    assert second != first
    assert report() == second
    assert seconds_until_next(database, second) == pytest.approx(23 * 3600, abs=60)
    with database.write() as session:
        session.execute(update(Notification).values(created_at=db_now(-25 * 3600), state="sent"))
    assert seconds_until_next(database, report()) < 11, "after a quiet day, the next one is reported at once"


def test_a_shorter_window_brings_a_waiting_mail_forward(database: Database) -> None:
    flagged, protected = incident(database), incident(database)
    with database.write() as session:
        outbox.notify_operator(session, [flagged], Occasion.FLAGGED, OPERATOR, window=600)
    waiting = newest(database, "operator", OPERATOR)
    assert seconds_until_next(database, waiting) == pytest.approx(600, abs=30)
    with database.write() as session:
        outbox.notify_operator(session, [protected], Occasion.PROTECTED, OPERATOR, window=10)
    assert newest(database, "operator", OPERATOR) == waiting
    assert seconds_until_next(database, waiting) < 11


def test_undeliverable_mail_returns_to_the_configured_address(database: Database) -> None:
    for bounces_to, sender in (
        *((None, "security@vendor.example"), ("bounces@vendor.example", "bounces@vendor.example")),
        ("Returns <returns@bücher.example>", "returns@xn--bcher-kva.example"),
    ):
        leak(database)
        post = Post()
        assert deliver(database, post, replace(IDENTITY, bounces_to=bounces_to)).sent == 1
        assert post.taken[0].sender == sender
        assert b"From: Vendor Security <security@vendor.example>" in post.taken[0].content


def test_a_wrong_address_for_bounces_prevents_no_mail_to_an_owner(database: Database) -> None:
    notification_id = leak(database)
    deliver(database, Post(), replace(IDENTITY, bounces_to="nobody"))
    assert "_BOUNCES_TO" in str(row(database, notification_id).error)
    make_due(database, notification_id)
    assert deliver(database, Post()).sent == 1


def test_rows_that_cannot_be_claimed_together_are_claimed_one_by_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        leak(database, f"owner{number}@acme.example")
    real = claiming.claim

    def claim(database: Database, keys: Sequence[uuid.UUID], *rest: Any) -> list[Claimed]:
        if len(keys) > 1:
            raise RuntimeError("too much at once")
        return real(database, keys, *rest)

    monkeypatch.setattr(claiming, "claim", claim)
    assert deliver(database, Post()).sent == 4


def test_nothing_is_written_about_an_account_that_is_erased_during_a_delivery(database: Database) -> None:
    gone, stays = incident(database, [place()]), incident(database, [place()])
    notify_operator(database, Occasion.PROTECTED, gone, stays)

    def erase(_: Envelope) -> None:
        with database.write() as session:
            for model in (NotificationSubject, Exposure):
                session.execute(delete(model).where(model.incident_id == gone))
            session.execute(delete(Incident).where(Incident.id == gone))

    assert deliver(database, Doing(1, erase)).sent == 1
    with database.read() as session:
        assert set(session.execute(select(AuditEntry.incident_id)).scalars()) == {stays}


def test_many_deliverers_at_once_send_each_mail_once(database: Database) -> None:
    rows = {leak(database, f"owner{number}@acme.example") for number in range(70)}
    post, reports = Post(), []
    threads = [threading.Thread(target=lambda: reports.append(deliver(database, post))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.sent for report in reports) == len(post.taken) == len(rows)
    assert len({envelope.recipient for envelope in post.taken}) == len(rows)
    assert {row(database, one).state for one in rows} == {"sent"}

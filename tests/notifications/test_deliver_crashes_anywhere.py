"""Tests that a crash during a delivery neither loses a mail nor sends it twice.

There is one exception: after a crash between the mail server's answer and the commit, the mail is sent again with the
same Message-ID.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import select, update

from notifications.announcing import announce_due
from notifications.email.transport import Envelope, PermanentFailure
from notifications.gateways import Content
from scanner.records import announcements
from scanner.records.announcement_models import Announcement
from scanner.records.announcements import DisabledToken
from scanner.records.audit_models import AuditEntry, AuditHead
from scanner.records.database import Database
from scanner.records.models import Exposure, Incident, Notification, NotificationSubject, db_now
from scanner.records.states import Cause, Channel
from tests.fault_injection import Injected, crashes
from tests.notifications.outbox_rows import OPERATOR, Post, deliver, incident, place, queue_owner_mail

OWNERS = ("ana@acme.example", "bo@acme.example")
LOST = "nobody@acme.example"
SEND_SECONDS = 1.0
"""The maximum time for sending one mail, much shorter than a lease, so that no lease has to be renewed."""


@dataclass
class Dying(Post):
    """A mail transport that can crash before and after the server accepts the mail."""

    injected: Injected = field(default_factory=Injected)

    def __init__(self) -> None:
        super().__init__({LOST: PermanentFailure("no such mailbox")})
        self.injected = Injected()

    def send(self, envelope: Envelope, *, deadline: float) -> None:
        self.injected.point()
        super().send(envelope, deadline=deadline)
        self.injected.point()


def begin(database: Database) -> None:
    """Delete all rows. Then queue mails about two incidents."""
    with database.write() as session:
        # The database allows deleting audit entries only up to `purged_id`, so set it to the last entry.
        session.execute(update(AuditHead).values(purged_id=AuditHead.last_id, purged_hash=AuditHead.last_hash))
        for model in (NotificationSubject, Notification, Announcement, Exposure, Incident, AuditEntry):
            session.query(model).delete()
    told, lost = incident(database, [place()]), incident(database, [place()])
    for owner in OWNERS:
        queue_owner_mail(database, told, recipient=owner)
    queue_owner_mail(database, lost, recipient=LOST)


def let_time_pass(database: Database) -> None:
    """Make all waiting mails due."""
    with database.write() as session:
        session.execute(update(Notification).values(leased_until=None))
        session.execute(
            update(Notification).where(Notification.state.in_(("pending", "frozen"))).values(next_attempt_at=db_now(-1))
        )


def recover(database: Database, post: Post) -> None:
    open_rows = select(Notification.id).where(Notification.state.in_(("pending", "frozen"))).limit(1)
    for _ in range(3):
        with database.read() as session:
            if session.execute(open_rows).first() is None:
                return
        let_time_pass(database)
        deliver(database, post, send_seconds=SEND_SECONDS)


def assert_all_is_well(database: Database, post: Post, number: int) -> None:
    with database.read() as session:
        rows = session.execute(select(Notification.recipient, Notification.state, Notification.message_id)).all()
        entries = session.execute(select(AuditEntry.what, AuditEntry.evidence)).all()
    states = sorted((recipient, state) for recipient, state, _ in rows if recipient)
    assert states == sorted([*((owner, "sent") for owner in OWNERS), (LOST, "failed"), (OPERATOR, "sent")]), number
    own_ids = {recipient: message_id for recipient, _, message_id in rows}
    taken = Counter(envelope.recipient for envelope in post.taken)
    assert set(taken) == {*OWNERS, OPERATOR}, number
    assert all(envelope.message_id == own_ids[envelope.recipient] for envelope in post.taken), number
    assert sum(taken.values()) <= len(taken) + 1, number
    audited = Counter((what, evidence["recipient"]) for what, evidence in entries)
    assert audited == Counter([*(("mail_sent", one) for one in (*OWNERS, OPERATOR)), ("mail_failed", LOST)]), number


def test_a_crash_anywhere_in_a_delivery_neither_loses_nor_doubles_a_mail(database: Database) -> None:
    number = doubled = 0
    while True:
        begin(database)
        post = Dying()
        post.injected.at = number
        crashed = crashes(database, post.injected, _delivering(database, post))
        post.injected.at = -1
        recover(database, post)
        assert_all_is_well(database, post, number)
        doubled += len(post.taken) > len(OWNERS) + 1
        if not crashed:  # there is no point with this number, so all points were tried
            break
        number += 1
    assert number > 20
    # A mail is sent twice only if the crash comes between the mail server's answer and the commit. Most of the crashes
    # come at other points.
    assert 0 < doubled < number / 2


def test_a_crash_anywhere_in_an_announcement_loses_nothing_and_repeats_the_same_id(database: Database) -> None:
    points = announced_with_a_crash(database, -1)
    assert points > 5
    for number in range(points):
        announced_with_a_crash(database, number)


def announced_with_a_crash(database: Database, number: int) -> int:
    """Announce two tokens, crash at the point `number`, and recover. Check that no announcement is lost.

    The first point has the number 0, and -1 means no crash. Return the number of points.
    """
    with database.write() as session:
        for model in (NotificationSubject, Notification, Announcement):
            session.query(model).delete()
        stopped = [
            DisabledToken(letter * 64, "7", Cause.OPERATOR, datetime(2026, 11, 3, tzinfo=UTC)) for letter in "ab"
        ]
        announcements.announce(session, stopped, (Channel.WEBHOOK,))
    channel = _Channel(Injected(at=number))
    assert crashes(database, channel.injected, _announcing(database, channel)) == (number >= 0), number
    points, channel.injected.at = channel.injected.points, -1
    let_time_pass(database)
    announce_due(database, {Channel.WEBHOOK: channel})
    told = {content["id"]: content["digest"] for batch in channel.batches for content in batch}
    assert sorted(str(digest) for digest in told.values()) == ["a" * 64, "b" * 64], number
    assert len(channel.batches) <= 2, number
    with database.read() as session:
        assert set(session.execute(select(Notification.state)).scalars()) == {"sent"}, number
    return points


@dataclass
class _Channel:
    injected: Injected
    batches: list[list[Content]] = field(default_factory=list)

    def send(self, batch: Sequence[Content]) -> None:
        self.injected.point()
        self.batches.append(list(batch))
        self.injected.point()

    def close(self) -> None:
        """Do nothing."""


def _delivering(database: Database, post: Post) -> Callable[[], object]:
    return lambda: deliver(database, post, send_seconds=SEND_SECONDS)


def _announcing(database: Database, channel: _Channel) -> Callable[[], object]:
    return lambda: announce_due(database, {Channel.WEBHOOK: channel})

"""Sends announcements of disabled tokens to API gateways.

Each announcement is delivered at least once. After a crash, a batch may be sent again with the same ids.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from notifications.backoff import ANNOUNCEMENT_BACKOFF_SECONDS, GIVE_UP_AFTER, announcement_backoff
from notifications.gateways import AnnouncementChannel, AnnouncementRefused, AnnouncementUndelivered, Content
from scanner.records import announcements, audit, leases, security_log
from scanner.records.database import Database
from scanner.records.leases import Lease
from scanner.records.models import Notification, db_now
from scanner.records.states import Channel, NotificationState

BATCH = 100
MAX_BATCHES_PER_RUN = 20
MAX_SINGLE_SEND_SECONDS = 8.0
"""The maximum time for sending the announcements of a refused batch one by one. It must be shorter than a lease."""
MAX_REFUSED = 5
"""Sending stops if the receiver refuses this many single announcements and accepts none."""
MAX_ERROR_LENGTH = 500
MAX_ROWS_GIVEN_UP = 1000
GAVE_UP = f"gave up after {GIVE_UP_AFTER.days} days"
ERROR_NO_CONTENT = "the announcement has no content and cannot be sent"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnnouncingReport:
    """The numbers of announcements that one run has sent, deferred and given up."""

    sent: int = 0
    deferred: int = 0
    failed: int = 0

    def __add__(self, other: AnnouncingReport) -> AnnouncingReport:
        return AnnouncingReport(self.sent + other.sent, self.deferred + other.deferred, self.failed + other.failed)


@dataclass(frozen=True, slots=True)
class _Sent:
    """The result of sending one batch. `accepts_more` says whether to send another batch in this run."""

    report: AnnouncingReport
    accepts_more: bool


@dataclass(frozen=True, slots=True)
class _Claimed:
    lease: Lease
    content: Content
    age: timedelta


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch of claimed announcements.

    `failed` is the number of announcements that were recorded as failed because they have no content.
    """

    rows: list[_Claimed]
    failed: int


def announce_due(database: Database, channels: Mapping[Channel, AnnouncementChannel]) -> AnnouncingReport:
    """Send the due announcements of each channel. An error in one channel does not affect the other channels.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is unavailable.
    """
    report = AnnouncingReport(failed=_give_up_without_channel(database, channels))
    for name in sorted(channels):
        for _ in range(MAX_BATCHES_PER_RUN):
            batch = _claim(database, name)
            report += AnnouncingReport(failed=batch.failed)
            if not batch.rows:
                break
            sent = _send(database, name, channels[name], batch.rows)
            report += sent.report
            if not sent.accepts_more:
                break
    return report


def _send(database: Database, name: Channel, channel: AnnouncementChannel, claimed: list[_Claimed]) -> _Sent:
    """Send a batch of announcements and record the result."""
    try:
        channel.send([one.content for one in claimed])
    except AnnouncementRefused as err:
        if len(claimed) > 1:
            return _send_singly(database, name, channel, claimed)
        return _Sent(_defer_channel(database, name, claimed, str(err)), accepts_more=False)
    except AnnouncementUndelivered as err:
        return _Sent(_defer_channel(database, name, claimed, str(err)), accepts_more=False)
    return _Sent(AnnouncingReport(sent=_settle(database, name, claimed)), accepts_more=True)


def _send_singly(database: Database, name: Channel, channel: AnnouncementChannel, claimed: list[_Claimed]) -> _Sent:
    """Send the announcements of a refused batch one by one."""
    report = AnnouncingReport()
    until = time.monotonic() + MAX_SINGLE_SEND_SECONDS
    taken = refused = 0
    for number, one in enumerate(claimed):
        if time.monotonic() > until or (refused >= MAX_REFUSED and not taken):
            # Stop here. The remaining announcements are due earlier than the refused ones, so the next batch begins
            # with them.
            report += _give_back(database, claimed[number:])
            break
        try:
            channel.send([one.content])
        except AnnouncementRefused as err:
            refused += 1
            _log.error("an announcement was refused and will be retried: %s", err, extra={"channel": name})
            with database.write() as session:
                report += _defer(session, [one], str(err))
        except AnnouncementUndelivered as err:
            report += _defer_channel(database, name, claimed[number:], str(err))
            return _Sent(report, accepts_more=False)
        else:
            taken += 1
            report += AnnouncingReport(sent=_settle(database, name, [one]))
    return _Sent(report, accepts_more=bool(taken))


def _due(channel: str) -> tuple[ColumnElement[bool], ...]:
    return (Notification.channel == channel, Notification.state == NotificationState.FROZEN)


def _claim(database: Database, channel: str) -> _Batch:
    """Claim a batch of due announcements of a channel, and schedule their next attempt."""
    with database.write() as session:
        keys = leases.due_keys(session, Notification, *_due(channel), limit=BATCH)
        held = {lease.key: lease for lease in leases.claim_all(session, Notification, keys, *_due(channel))}
        rows = session.execute(
            select(Notification.id, Notification.facts, Notification.created_at, db_now()).where(
                Notification.id.in_(held)
            )
        ).all()
        by_key = {key: _Claimed(held[key], facts, now - created_at) for key, facts, created_at, now in rows if facts}
        claimed = [by_key[key] for key in keys if key in by_key]
        empty = [lease for key, lease in held.items() if key not in by_key]
        failed = leases.write_all(
            session, empty, leased_until=None, state=NotificationState.FAILED, error=ERROR_NO_CONTENT
        )
        # Plan the next attempt before this one, so that announcements are sent again even if this worker dies.
        for delay, planned in _by_delay(claimed).items():
            leases.write_all(session, planned, next_attempt_at=db_now(delay))
    return _Batch(claimed, len(failed))


def _by_delay(claimed: list[_Claimed]) -> dict[int, list[Lease]]:
    found: dict[int, list[Lease]] = defaultdict(list)
    for one in claimed:
        found[announcement_backoff(one.lease.attempts)].append(one.lease)
    return found


def _settle(database: Database, channel: Channel, claimed: list[_Claimed]) -> int:
    """Record that the announcements were sent. Return the number of recorded ones."""
    with database.write() as session:
        for one in claimed:
            incident = one.content.get("incident_id")
            security_log.write_after_commit(
                session,
                "token_announced",
                {"channel": channel.value, "digest": one.content.get("digest")},
                who=audit.SYSTEM,
                incident_id=uuid.UUID(incident) if incident else None,
            )
        return _written(
            session, claimed, state=NotificationState.SENT, sent_at=db_now(), next_attempt_at=db_now(), error=None
        )


def _defer_channel(database: Database, channel: str, claimed: list[_Claimed], reason: str) -> AnnouncingReport:
    """Defer the claimed announcements and all other due announcements of the channel."""
    _log.error(
        "announcements could not be sent and will be retried: %s",
        reason,
        extra={"channel": channel, "rows": len(claimed)},
    )
    with database.write() as session:
        report = _defer(session, claimed, reason)
        others = select(Notification.id).where(*_due(channel), leases.is_due(Notification))
        session.execute(
            update(Notification)
            .where(Notification.id.in_(others.with_for_update(skip_locked=True)))
            .values(next_attempt_at=db_now(ANNOUNCEMENT_BACKOFF_SECONDS[0]))
            .execution_options(synchronize_session=False)
        )
    return report


def _defer(session: Session, claimed: list[_Claimed], reason: str) -> AnnouncingReport:
    """Defer the announcements. Record those older than GIVE_UP_AFTER as failed."""
    error = reason[:MAX_ERROR_LENGTH]
    old = [one for one in claimed if one.age > GIVE_UP_AFTER]
    failed = _written(session, old, state=NotificationState.FAILED, error=f"{GAVE_UP}: {error}")
    deferred = _written(session, [one for one in claimed if one.age <= GIVE_UP_AFTER], error=error)
    return AnnouncingReport(deferred=deferred, failed=failed)


def _give_back(database: Database, claimed: list[_Claimed]) -> AnnouncingReport:
    """Release announcements that this run did not try to send."""
    with database.write() as session:
        return AnnouncingReport(
            deferred=_written(session, claimed, next_attempt_at=db_now(ANNOUNCEMENT_BACKOFF_SECONDS[0]))
        )


def _give_up_without_channel(database: Database, channels: Mapping[Channel, AnnouncementChannel]) -> int:
    """Record old announcements as failed if their channel is no longer configured. Return their number."""
    gone = (
        Notification.channel.in_(sorted(set(announcements.CHANNELS) - channels.keys())),
        Notification.state == NotificationState.FROZEN,
        Notification.created_at < db_now(-GIVE_UP_AFTER.total_seconds()),
        leases.is_due(Notification),
    )
    with database.read() as session:
        keys = list(session.execute(select(Notification.id).where(*gone).limit(MAX_ROWS_GIVEN_UP)).scalars())
    if not keys:
        return 0
    with database.write() as session:
        result = session.execute(
            update(Notification)
            .where(Notification.id.in_(keys), *gone)
            .values(state=NotificationState.FAILED, error=f"{GAVE_UP}: the channel is no longer configured")
            .execution_options(synchronize_session=False)
        )
        return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def _written(session: Session, claimed: list[_Claimed], **values: Any) -> int:
    """Write `values` to the claimed rows and release them. Return the number of written rows."""
    written = leases.write_all(session, [one.lease for one in claimed], leased_until=None, **values)
    if len(written) < len(claimed):
        lost = len(claimed) - len(written)
        _log.warning("the lease on announcements was lost; another worker continues with them", extra={"rows": lost})
    return len(written)

"""Delivers announcements: rows of the outbox that are due, in batches, a channel at a time, until they are taken.

At least once: between the receiver's acceptance and our commit a crash makes a repeat, which carries the same id.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, select, update

from notifications.gateways import Channel, Content, Undelivered
from scanner.records import leases
from scanner.records.database import Database
from scanner.records.leases import Lease, LeaseLost
from scanner.records.models import Notification, db_now

BATCH = 100
BATCHES_A_RUN = 20
BACKOFF_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300)
GIVE_UP_AFTER = timedelta(days=3)
LONGEST_ERROR = 500

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class AnnouncingReport:
    """What one run did, in rows."""

    sent: int = 0
    postponed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Claimed:
    lease: Lease
    content: Content
    age: timedelta


def announce_due(database: Database, channels: Mapping[str, Channel]) -> AnnouncingReport:
    """Send what is due on each channel; one that is away stops no other. Raises what the database raises when away."""
    report = AnnouncingReport()
    for name in sorted(channels):
        for _ in range(BATCHES_A_RUN):
            claimed = _claim(database, name)
            if not claimed:
                break
            try:
                channels[name].send([one.content for one in claimed])
            except Undelivered as err:
                _put_off(database, name, claimed, str(err), report)
                break
            report.sent += _settle(database, claimed)
    return report


def backoff(attempts: int) -> int:
    """Seconds until the next attempt after `attempts` of them (1 and up)."""
    return BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1]


def _due(channel: str) -> tuple[ColumnElement[bool], ...]:
    return (Notification.channel == channel, Notification.state == "frozen")


def _claim(database: Database, channel: str) -> list[_Claimed]:
    """Take a batch; the next attempt is planned here already, for the case that this worker dies."""
    claimed: list[_Claimed] = []
    with database.write() as session:
        for key in leases.due_keys(session, Notification, *_due(channel), limit=BATCH):
            lease = leases.claim(session, Notification, key, *_due(channel))
            if lease is None:
                continue
            row = session.execute(
                select(Notification.facts, Notification.created_at, db_now()).where(Notification.id == key)
            ).one()
            lease.write(session, next_attempt_at=db_now(backoff(lease.attempts)))
            claimed.append(_Claimed(lease, row[0] or {}, row[2] - row[1]))
    return claimed


def _settle(database: Database, claimed: list[_Claimed]) -> int:
    """Write that they are out; how many were still ours."""
    written = 0
    with database.write() as session:
        for one in claimed:
            written += _written(session, one, state="sent", sent_at=db_now(), next_attempt_at=db_now(), error=None)
    return written


def _put_off(database: Database, channel: str, claimed: list[_Claimed], reason: str, report: AnnouncingReport) -> None:
    """Leave the batch, and all else of the channel that is due, for later; what is three days old fails, in sight."""
    _log.error("announcements are put off: %s", reason, extra={"channel": channel, "rows": len(claimed)})
    error = reason[:LONGEST_ERROR]
    with database.write() as session:
        for one in claimed:
            if one.age > GIVE_UP_AFTER:
                report.failed += _written(session, one, state="failed", error=f"gave up after 3 days: {error}")
            else:
                report.postponed += _written(session, one, error=error)
        others = select(Notification.id).where(*_due(channel), leases.is_due(Notification))
        session.execute(
            update(Notification)
            .where(Notification.id.in_(others.with_for_update(skip_locked=True)))
            .values(next_attempt_at=db_now(BACKOFF_SECONDS[0]))
            .execution_options(synchronize_session=False)
        )


def _written(session: Any, one: _Claimed, **values: Any) -> int:
    """1, or 0 where another worker has the row by now: then that one says what became of it."""
    try:
        one.lease.write(session, leased_until=None, **values)
    except LeaseLost as err:
        _log.warning("%s", err)
        return 0
    return 1

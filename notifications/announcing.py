"""Delivers announcements: rows of the outbox that are due, in batches, a channel at a time, until they are taken.

At least once: between the receiver's acceptance and our commit a crash makes a repeat, which carries the same id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from notifications.gateways import Channel, Content, Refused, Undelivered
from scanner.records import announcements, leases
from scanner.records.database import Database
from scanner.records.leases import Lease, LeaseLost
from scanner.records.models import Notification, db_now

BATCH = 100
BATCHES_A_RUN = 20
BACKOFF_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300)
GIVE_UP_AFTER = timedelta(days=3)
SINGLY_SECONDS = 8.0
"""For trying a refused batch one by one: with two requests of full length, less than a lease."""
MOST_REFUSED = 5
"""Single ones refused before any is taken: it is the receiver that is wrong then, not each of them."""
LONGEST_ERROR = 500
ROWS_GIVEN_UP = 1000
GAVE_UP = "gave up after 3 days"
NOTHING_TO_TELL = "it does not say which token: it cannot be sent"

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
    report = AnnouncingReport(failed=_give_up_without_channel(database, channels))
    for name in sorted(channels):
        for _ in range(BATCHES_A_RUN):
            claimed = _claim(database, name, report)
            if not claimed or not _send(database, name, channels[name], claimed, report):
                break
    return report


def _send(database: Database, name: str, channel: Channel, claimed: list[_Claimed], report: AnnouncingReport) -> bool:
    """Send a batch; whether the channel takes more."""
    try:
        channel.send([one.content for one in claimed])
    except Refused as err:
        if len(claimed) > 1:
            return _send_singly(database, name, channel, claimed, report)
        _put_off(database, name, claimed, str(err), report)
        return False
    except Undelivered as err:
        _put_off(database, name, claimed, str(err), report)
        return False
    report.sent += _settle(database, claimed)
    return True


def _send_singly(
    database: Database, name: str, channel: Channel, claimed: list[_Claimed], report: AnnouncingReport
) -> bool:
    """A batch was refused: one that the receiver cannot read must not hold up the others."""
    until = time.monotonic() + SINGLY_SECONDS
    taken = refused = 0
    for number, one in enumerate(claimed):
        if time.monotonic() > until or (refused >= MOST_REFUSED and not taken):
            # Those refused wait longer than these: whatever comes first in the next batch, it is not they.
            _let_go(database, claimed[number:], report)
            return bool(taken)
        try:
            channel.send([one.content])
        except Refused as err:
            refused += 1
            _log.error("an announcement is put off: %s", err, extra={"channel": name})
            with database.write() as session:
                _postpone(session, [one], str(err), report)
        except Undelivered as err:
            _put_off(database, name, claimed[number:], str(err), report)
            return False
        else:
            taken += 1
            report.sent += _settle(database, [one])
    return bool(taken)


def backoff(attempts: int) -> int:
    """Seconds until the next attempt after `attempts` of them (1 and up)."""
    return BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1]


def _due(channel: str) -> tuple[ColumnElement[bool], ...]:
    return (Notification.channel == channel, Notification.state == "frozen")


def _claim(database: Database, channel: str, report: AnnouncingReport) -> list[_Claimed]:
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
            if not row[0]:
                lease.write(session, leased_until=None, state="failed", error=NOTHING_TO_TELL)
                report.failed += 1
                continue
            lease.write(session, next_attempt_at=db_now(backoff(lease.attempts)))
            claimed.append(_Claimed(lease, row[0], row[2] - row[1]))
    return claimed


def _settle(database: Database, claimed: list[_Claimed]) -> int:
    """Write that they are out; how many were still ours."""
    written = 0
    with database.write() as session:
        for one in claimed:
            written += _written(session, one, state="sent", sent_at=db_now(), next_attempt_at=db_now(), error=None)
    return written


def _put_off(database: Database, channel: str, claimed: list[_Claimed], reason: str, report: AnnouncingReport) -> None:
    """Leave the batch, and all else of the channel that is due, for later."""
    _log.error("announcements are put off: %s", reason, extra={"channel": channel, "rows": len(claimed)})
    with database.write() as session:
        _postpone(session, claimed, reason, report)
        others = select(Notification.id).where(*_due(channel), leases.is_due(Notification))
        session.execute(
            update(Notification)
            .where(Notification.id.in_(others.with_for_update(skip_locked=True)))
            .values(next_attempt_at=db_now(BACKOFF_SECONDS[0]))
            .execution_options(synchronize_session=False)
        )


def _postpone(session: Session, claimed: list[_Claimed], reason: str, report: AnnouncingReport) -> None:
    """Leave them for the attempt that is planned; what is three days old fails, in sight."""
    error = reason[:LONGEST_ERROR]
    for one in claimed:
        if one.age > GIVE_UP_AFTER:
            report.failed += _written(session, one, state="failed", error=f"{GAVE_UP}: {error}")
        else:
            report.postponed += _written(session, one, error=error)


def _let_go(database: Database, claimed: list[_Claimed], report: AnnouncingReport) -> None:
    """Give back what was not tried."""
    with database.write() as session:
        for one in claimed:
            report.postponed += _written(session, one, next_attempt_at=db_now(BACKOFF_SECONDS[0]))


def _give_up_without_channel(database: Database, channels: Mapping[str, Channel]) -> int:
    """Fail, in sight, what waits for three days on a channel whose setting was removed; how many."""
    gone = (
        Notification.channel.in_(sorted(set(announcements.CHANNELS) - channels.keys())),
        Notification.state == "frozen",
        Notification.created_at < db_now(-GIVE_UP_AFTER.total_seconds()),
        leases.is_due(Notification),
    )
    with database.read() as session:
        keys = list(session.execute(select(Notification.id).where(*gone).limit(ROWS_GIVEN_UP)).scalars())
    if not keys:
        return 0
    with database.write() as session:
        result = session.execute(
            update(Notification)
            .where(Notification.id.in_(keys), *gone)
            .values(state="failed", error=f"{GAVE_UP}: its channel is not set any more")
            .execution_options(synchronize_session=False)
        )
        return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def _written(session: Any, one: _Claimed, **values: Any) -> int:
    """1, or 0 where another worker has the row by now: then that one says what became of it."""
    try:
        one.lease.write(session, leased_until=None, **values)
    except LeaseLost as err:
        _log.warning("%s", err)
        return 0
    return 1

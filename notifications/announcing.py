"""Delivers announcements: rows of the outbox that are due, in batches, a channel at a time, until they are taken.

At least once: between the receiver's acceptance and our commit a crash makes a repeat, which carries the same id.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from notifications.gateways import Channel, Content, Refused, Undelivered
from scanner.records import announcements, leases
from scanner.records.database import Database
from scanner.records.leases import Lease
from scanner.records.models import Notification, db_now
from scanner.records.states import NotificationState

BATCH = 100
BATCHES_A_RUN = 20
BACKOFF_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300)
GIVE_UP_AFTER = timedelta(days=3)
SINGLY_SECONDS = 8.0
"""For trying a refused batch one by one: with two requests of full length, less than a lease."""
MAX_REFUSED = 5
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
    deferred: int = 0
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
        _defer_channel(database, name, claimed, str(err), report)
        return False
    except Undelivered as err:
        _defer_channel(database, name, claimed, str(err), report)
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
        if time.monotonic() > until or (refused >= MAX_REFUSED and not taken):
            # Those refused wait longer than these: whatever comes first in the next batch, it is not they.
            _let_go(database, claimed[number:], report)
            return bool(taken)
        try:
            channel.send([one.content])
        except Refused as err:
            refused += 1
            _log.error("an announcement is put off: %s", err, extra={"channel": name})
            with database.write() as session:
                _defer(session, [one], str(err), report)
        except Undelivered as err:
            _defer_channel(database, name, claimed[number:], str(err), report)
            return False
        else:
            taken += 1
            report.sent += _settle(database, [one])
    return bool(taken)


def backoff(attempts: int) -> int:
    """Seconds until the next attempt after `attempts` of them (1 and up)."""
    return BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1]


def _due(channel: str) -> tuple[ColumnElement[bool], ...]:
    return (Notification.channel == channel, Notification.state == NotificationState.FROZEN)


def _claim(database: Database, channel: str, report: AnnouncingReport) -> list[_Claimed]:
    """Take a batch; the next attempt is planned here already, for the case that this worker dies."""
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
            session, empty, leased_until=None, state=NotificationState.FAILED, error=NOTHING_TO_TELL
        )
        report.failed += len(failed)
        for delay, planned in _by_delay(claimed).items():
            leases.write_all(session, planned, next_attempt_at=db_now(delay))
    return claimed


def _by_delay(claimed: list[_Claimed]) -> dict[int, list[Lease]]:
    found: dict[int, list[Lease]] = defaultdict(list)
    for one in claimed:
        found[backoff(one.lease.attempts)].append(one.lease)
    return found


def _settle(database: Database, claimed: list[_Claimed]) -> int:
    """Write that they are out; how many were still ours."""
    with database.write() as session:
        return _written(
            session, claimed, state=NotificationState.SENT, sent_at=db_now(), next_attempt_at=db_now(), error=None
        )


def _defer_channel(
    database: Database, channel: str, claimed: list[_Claimed], reason: str, report: AnnouncingReport
) -> None:
    """Leave the batch, and all else of the channel that is due, for later."""
    _log.error("announcements are put off: %s", reason, extra={"channel": channel, "rows": len(claimed)})
    with database.write() as session:
        _defer(session, claimed, reason, report)
        others = select(Notification.id).where(*_due(channel), leases.is_due(Notification))
        session.execute(
            update(Notification)
            .where(Notification.id.in_(others.with_for_update(skip_locked=True)))
            .values(next_attempt_at=db_now(BACKOFF_SECONDS[0]))
            .execution_options(synchronize_session=False)
        )


def _defer(session: Session, claimed: list[_Claimed], reason: str, report: AnnouncingReport) -> None:
    """Leave them for the attempt that is planned; what is three days old fails, in sight."""
    error = reason[:LONGEST_ERROR]
    old = [one for one in claimed if one.age > GIVE_UP_AFTER]
    report.failed += _written(session, old, state=NotificationState.FAILED, error=f"{GAVE_UP}: {error}")
    report.deferred += _written(session, [one for one in claimed if one.age <= GIVE_UP_AFTER], error=error)


def _let_go(database: Database, claimed: list[_Claimed], report: AnnouncingReport) -> None:
    """Give back what was not tried."""
    with database.write() as session:
        report.deferred += _written(session, claimed, next_attempt_at=db_now(BACKOFF_SECONDS[0]))


def _give_up_without_channel(database: Database, channels: Mapping[str, Channel]) -> int:
    """Fail, in sight, what waits for three days on a channel whose setting was removed; how many."""
    gone = (
        Notification.channel.in_(sorted(set(announcements.CHANNELS) - channels.keys())),
        Notification.state == NotificationState.FROZEN,
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
            .values(state=NotificationState.FAILED, error=f"{GAVE_UP}: its channel is not set any more")
            .execution_options(synchronize_session=False)
        )
        return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def _written(session: Session, claimed: list[_Claimed], **values: Any) -> int:
    """How many were still ours; another worker that has one by now says what became of it."""
    written = leases.write_all(session, [one.lease for one in claimed], leased_until=None, **values)
    if len(written) < len(claimed):
        _log.warning("leases on announcements went to another worker", extra={"rows": len(claimed) - len(written)})
    return len(written)

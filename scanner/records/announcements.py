"""Announcements: tokens that were disabled, for gateways that cache. Rows only, written with the disable.

Each has one row in `announcements`, for who catches up, and one in the outbox for each channel that is configured.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from scanner.records.models import Announcement, Notification, NotificationSubject, db_now
from scanner.records.states import Cause, NotificationState

STREAM = "stream"
WEBHOOK = "webhook"
CHANNELS = (STREAM, WEBHOOK)

KEPT_DAYS = 30
SETTLED_SECONDS = 120
"""Ids are given before the transaction commits. Above this age nothing below an id can still appear: transactions of
ours take milliseconds, and the database ends one that idles after 60 s."""
MAX_LISTED = 1000
OCCASION = "disabled"


class TooOld(Exception):
    """What followed the cursor cannot be given any more. `start`: the cursor to go on from once all is forgotten."""

    def __init__(self, start: int) -> None:
        super().__init__("the cursor is older than what is kept")
        self.start = start


@dataclass(frozen=True, slots=True)
class Stopped:
    """A token that this transaction disables."""

    digest: str
    token_id: str
    cause: Cause
    disabled_at: datetime
    incident_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Announcements after a cursor. `next`: the cursor to ask with next, safe to keep; `more`: ask at once."""

    found: list[dict[str, Any]]
    next: int
    more: bool


def announce(session: Session, stopped: Collection[Stopped], channels: Sequence[str]) -> int:
    """Write what was disabled in the caller's transaction, once an incident; how many were new."""
    now = session.execute(select(db_now())).scalar_one()
    told = set(
        session.execute(
            select(Announcement.incident_id).where(
                Announcement.incident_id.in_([one.incident_id for one in stopped if one.incident_id is not None])
            )
        ).scalars()
    )
    new = [one for one in stopped if one.incident_id is None or one.incident_id not in told]
    if not new:
        return 0
    rows = [_row(one, now) for one in new]
    # In whatever order they come back: to have it kept, SQLite would write them one by one.
    written = session.execute(insert(Announcement).returning(Announcement), rows)
    announced = sorted(written.scalars(), key=lambda row: row.id)
    for channel in channels:
        _queue(session, channel, announced, now)
    return len(new)


def content_of(row: Announcement) -> dict[str, Any]:
    """What a gateway is told, the same on every way: JSON values only."""
    return {
        "id": row.id,
        "type": "token.disabled",
        "digest": row.digest,
        "token_id": row.token_id,
        "cause": row.cause,
        "incident_id": str(row.incident_id) if row.incident_id else None,
        "disabled_at": row.disabled_at.isoformat(),
    }


def listed(session: Session, after: int | None, *, limit: int = MAX_LISTED) -> Listing:
    """What was announced after the cursor; without one, only the cursor of now. TooOld.

    At most `limit` of those that are `SETTLED_SECONDS` old. The newer ones are all given, and again the next time:
    one with a lower id may still be under way, so no cursor ever points above those that are settled.
    """
    settled, oldest, newest = session.execute(
        select(
            func.max(Announcement.id).filter(Announcement.announced_at < db_now(-SETTLED_SECONDS)),
            func.min(Announcement.id),
            func.max(Announcement.id),
        )
    ).one()
    settled, oldest, newest = settled or 0, oldest or 0, newest or 0
    if after is None:
        return Listing([], settled, more=False)
    # Rows end with their age: where the one that follows the cursor is missing, others may be. A cursor from the
    # future was given by a database that was restored since.
    if after + 1 < oldest or after > newest:
        raise TooOld(max(settled, oldest - 1, 0))
    rows = list(
        session.execute(
            select(Announcement)
            .where(Announcement.id > after, Announcement.id <= settled)
            .order_by(Announcement.id)
            .limit(limit + 1)
        ).scalars()
    )
    if len(rows) > limit:
        return Listing([content_of(row) for row in rows[:limit]], rows[limit - 1].id, more=True)
    rest = select(Announcement).where(Announcement.id > max(after, settled)).order_by(Announcement.id)
    rows += session.execute(rest).scalars()
    return Listing([content_of(row) for row in rows], settled, more=False)


def purge_expired(session: Session) -> None:
    """Remove what is older than 30 days; the newest stays, so that the count goes on."""
    old = Announcement.announced_at < db_now(-KEPT_DAYS * 86400)
    newest = select(func.max(Announcement.id)).scalar_subquery()
    session.execute(
        delete(Announcement).where(old, Announcement.id < newest).execution_options(synchronize_session=False)
    )
    sent = (Notification.channel.in_(CHANNELS), Notification.state == NotificationState.SENT)
    gone = Notification.next_attempt_at < db_now(-KEPT_DAYS * 86400)
    session.execute(delete(Notification).where(*sent, gone).execution_options(synchronize_session=False))


def _row(one: Stopped, now: datetime) -> dict[str, Any]:
    return {
        "digest": one.digest,
        "token_id": one.token_id,
        "cause": one.cause,
        "incident_id": one.incident_id,
        "disabled_at": one.disabled_at,
        "announced_at": now,
    }


def _queue(session: Session, channel: str, announced: Sequence[Announcement], now: datetime) -> None:
    """A row of the outbox each: frozen from its birth, since nothing is ever added to it."""
    rows = [
        {
            "id": uuid.uuid4(),
            "channel": channel,
            "merge_key": str(row.id),
            "state": NotificationState.FROZEN,
            "attempts": 0,
            "next_attempt_at": now,
            "facts": content_of(row),
            "message_id": f"announcement {row.id}",
            "created_at": now,
        }
        for row in announced
    ]
    session.execute(insert(Notification), rows)
    subjects = [
        {
            "notification_id": row["id"],
            "incident_id": one.incident_id,
            "channel": channel,
            "merge_key": row["merge_key"],
            "occasion": OCCASION,
        }
        for row, one in zip(rows, announced, strict=True)
        if one.incident_id is not None
    ]
    if subjects:
        session.execute(insert(NotificationSubject), subjects)

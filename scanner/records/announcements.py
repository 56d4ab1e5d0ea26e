"""Announcements of disabled tokens, for API gateways that cache authentications."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from scanner.records.announcement_models import Announcement
from scanner.records.models import Notification, NotificationSubject, db_now
from scanner.records.states import Cause, Channel, NotificationState, Occasion

CHANNELS = (Channel.STREAM, Channel.WEBHOOK)

RETENTION_DAYS = 30
SETTLED_SECONDS = 120
"""No transaction takes longer than this, so no new announcement can get a smaller id than one of this age."""
MAX_LISTED = 1000


class CursorExpired(Exception):
    """Raised if announcements after the cursor were deleted, or if the cursor is too high.

    The gateway must empty its whole cache and continue from the cursor `start`.
    """

    def __init__(self, start: int) -> None:
        super().__init__("the cursor is older than the oldest announcement that is kept")
        self.start = start


@dataclass(frozen=True, slots=True)
class DisabledToken:
    """A token that is being disabled, with the data that its announcement contains."""

    digest: str
    token_id: str
    cause: Cause
    disabled_at: datetime
    incident_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class AnnouncementPage:
    """A page of the list of announcements (JSON payloads, oldest first).

    `next_cursor` is the cursor for the next request. `has_more` says whether more announcements can be fetched now.
    """

    announcements: list[dict[str, Any]]
    next_cursor: int
    has_more: bool


def announce(session: Session, tokens: Collection[DisabledToken], channels: Sequence[Channel]) -> int:
    """Add announcements of disabled tokens, except for incidents that were announced before. Return their number."""
    now = session.execute(select(db_now())).scalar_one()
    announced_incidents = set(
        session.execute(
            select(Announcement.incident_id).where(
                Announcement.incident_id.in_([token.incident_id for token in tokens if token.incident_id is not None])
            )
        ).scalars()
    )
    new = [token for token in tokens if token.incident_id is None or token.incident_id not in announced_incidents]
    if not new:
        return 0
    rows = [_row(token, now) for token in new]
    # Sort in Python. SQLAlchemy would insert rows into SQLite one by one to return them sorted.
    inserted = session.execute(insert(Announcement).returning(Announcement), rows)
    announcements = sorted(inserted.scalars(), key=lambda row: row.id)
    for channel in channels:
        _queue(session, channel, announcements, now)
    return len(new)


def payload(row: Announcement) -> dict[str, Any]:
    """Return the JSON payload of an announcement."""
    return {
        "id": row.id,
        "type": "token.disabled",
        "digest": row.digest,
        "token_id": row.token_id,
        "cause": row.cause,
        "incident_id": str(row.incident_id) if row.incident_id else None,
        "disabled_at": row.disabled_at.isoformat(),
    }


def list_after(session: Session, after: int | None, *, limit: int = MAX_LISTED) -> AnnouncementPage:
    """Return the announcements with an id above `after`, oldest first.

    Announcements younger than `SETTLED_SECONDS` are returned again by the next call.

    Args:
        after: The gateway's cursor. None returns an empty page with the current cursor.
        limit: The maximum number of announcements older than `SETTLED_SECONDS`.

    Raises:
        CursorExpired: Announcements after the cursor were deleted, or the cursor is too high.
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
        return AnnouncementPage([], settled, has_more=False)
    # Announcements were deleted, or the database was restored from a backup that is older than the cursor.
    if after + 1 < oldest or after > newest:
        raise CursorExpired(max(settled, oldest - 1, 0))
    rows = list(
        session.execute(
            select(Announcement)
            .where(Announcement.id > after, Announcement.id <= settled)
            .order_by(Announcement.id)
            .limit(limit + 1)
        ).scalars()
    )
    if len(rows) > limit:
        return AnnouncementPage([payload(row) for row in rows[:limit]], rows[limit - 1].id, has_more=True)
    unsettled = select(Announcement).where(Announcement.id > max(after, settled)).order_by(Announcement.id)
    rows += session.execute(unsettled).scalars()
    return AnnouncementPage([payload(row) for row in rows], settled, has_more=False)


def purge_expired(session: Session) -> None:
    """Delete announcements, and sent messages about them, that are older than `RETENTION_DAYS`."""
    old = Announcement.announced_at < db_now(-RETENTION_DAYS * 86400)
    # Keep the newest announcement, so that new ids continue from its id.
    newest = select(func.max(Announcement.id)).scalar_subquery()
    session.execute(
        delete(Announcement).where(old, Announcement.id < newest).execution_options(synchronize_session=False)
    )
    sent = (Notification.channel.in_(CHANNELS), Notification.state == NotificationState.SENT)
    expired = Notification.next_attempt_at < db_now(-RETENTION_DAYS * 86400)
    session.execute(delete(Notification).where(*sent, expired).execution_options(synchronize_session=False))


def _row(token: DisabledToken, now: datetime) -> dict[str, Any]:
    return {
        "digest": token.digest,
        "token_id": token.token_id,
        "cause": token.cause,
        "incident_id": token.incident_id,
        "disabled_at": token.disabled_at,
        "announced_at": now,
    }


def _queue(session: Session, channel: Channel, announcements: Sequence[Announcement], now: datetime) -> None:
    """Add an outbox row (a message to be sent) for each announcement."""
    rows = [
        {
            "id": uuid.uuid4(),
            "channel": channel,
            "merge_key": str(row.id),
            "state": NotificationState.FROZEN,
            "attempts": 0,
            "next_attempt_at": now,
            "facts": payload(row),
            "message_id": f"announcement {row.id}",
            "created_at": now,
        }
        for row in announcements
    ]
    session.execute(insert(Notification), rows)
    subjects = [
        {
            "notification_id": row["id"],
            "incident_id": announcement.incident_id,
            "channel": channel,
            "merge_key": row["merge_key"],
            "occasion": Occasion.DISABLED,
        }
        for row, announcement in zip(rows, announcements, strict=True)
        if announcement.incident_id is not None
    ]
    if subjects:
        session.execute(insert(NotificationSubject), subjects)

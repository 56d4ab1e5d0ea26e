"""The timeline of an incident: its events in the order of time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records.announcement_models import Announcement
from scanner.records.audit_models import AuditEntry
from scanner.records.compromise_models import Report
from scanner.records.models import Exposure, Incident, Notification, NotificationSubject
from scanner.records.states import Cause, Channel, Decision

MAX_PLACES = 50
"""The timeline of an incident lists at most this many public places of its token."""
MAX_PLACES_COUNTED = 10_000
MAX_ENTRIES = 1000
_CAUSES = {
    Cause.PUBLIC_REPOSITORY: "because the token was found in public",
    Cause.COMPROMISE_SIGNS: "because the token was reported, or a usage rule matched",
    Cause.OPERATOR: "because an operator disabled the token",
    Cause.CANARY: "because a canary token was found",
}
_CHANNELS = {Channel.STREAM: "by the Redis stream", Channel.WEBHOOK: "by webhook"}


@dataclass(frozen=True, slots=True)
class Moment:
    """An event of an incident's timeline. `who` is "" if the person is unknown."""

    at: datetime
    who: str
    what: str
    detail: str


def timeline(session: Session, incident: Incident) -> list[Moment]:
    """Return the recorded events of the incident, earliest first."""
    moments = [
        *_token(incident),
        *_places(session, incident.id),
        *_reports(session, incident.id),
        Moment(incident.detected_at, "r8scan", "incident opened", _CAUSES[incident.cause]),
        *_audit(session, incident.id),
        *_notifications(session, incident),
        *_announcements(session, incident.id),
    ]
    return sorted(moments, key=lambda moment: moment.at)


def _token(incident: Incident) -> Iterator[Moment]:
    if incident.token_created_at is not None:
        yield Moment(incident.token_created_at, "token store", "token created or imported", incident.token_name)
    if incident.token_last_used_at is not None:
        yield Moment(incident.token_last_used_at, "", "token last used", "according to the token store")
    if incident.action == Decision.ALREADY_DISABLED and incident.disabled_at is not None:
        yield Moment(incident.disabled_at, "", "token disabled", "before r8scan found it")


def _places(session: Session, incident_id: uuid.UUID) -> Iterator[Moment]:
    statement = select(Exposure).where(Exposure.incident_id == incident_id).order_by(Exposure.id)
    for row in session.execute(statement.limit(MAX_PLACES)).scalars():
        where = " ".join(part for part in (row.repository, row.path, f"line {row.line}" if row.line else None) if part)
        place = f"{row.kind} {where or row.url}".strip()
        if row.published_at is not None:
            yield Moment(row.published_at, "", "became public", place)
        yield Moment(row.seen_at, row.source, "seen", place)
    counted = select(Exposure.id).where(Exposure.incident_id == incident_id).limit(MAX_PLACES_COUNTED + 1).subquery()
    total = session.execute(select(func.count()).select_from(counted)).scalar_one()
    if total > MAX_PLACES:
        last = session.execute(
            statement.with_only_columns(Exposure.seen_at).order_by(None).order_by(Exposure.id.desc()).limit(1)
        ).scalar_one()
        more = (
            f"{total - MAX_PLACES}" if total <= MAX_PLACES_COUNTED else f"more than {MAX_PLACES_COUNTED - MAX_PLACES:,}"
        )
        yield Moment(last, "r8scan", "seen", f"{more} more place{'s' if total - MAX_PLACES > 1 else ''} until then")


def _reports(session: Session, incident_id: uuid.UUID) -> Iterator[Moment]:
    statement = select(Report).where(Report.incident_id == incident_id).order_by(Report.id).limit(MAX_ENTRIES)
    for row in session.execute(statement).scalars():
        yield Moment(row.received_at, row.reporter, "reported", f"{row.sign}: {row.note or '-'}")


def _audit(session: Session, incident_id: uuid.UUID) -> Iterator[Moment]:
    statement = select(AuditEntry).where(AuditEntry.incident_id == incident_id).order_by(AuditEntry.id)
    for entry in session.execute(statement.limit(MAX_ENTRIES)).scalars():
        yield Moment(entry.at, entry.who, entry.what.replace("_", " "), _words(entry.evidence))


def _notifications(session: Session, incident: Incident) -> Iterator[Moment]:
    """Yield an event for each queued mail and for each announcement sent to gateways."""
    statement = (
        select(Notification, NotificationSubject.occasion)
        .join(NotificationSubject)
        .where(NotificationSubject.incident_id == incident.id)
        .order_by(Notification.created_at)
        .limit(MAX_ENTRIES)
    )
    for row, occasion in session.execute(statement):
        if row.channel in (Channel.EMAIL, Channel.OPERATOR):
            to = row.recipient or "nobody: no address is known"
            # An incident can be added to a waiting mail, so the mail may be older than the incident.
            at = max(row.created_at, incident.detected_at)
            yield Moment(at, "r8scan", "mail queued", f"to {to} ({occasion.replace('_', ' ')})")
        elif row.sent_at is not None:
            yield Moment(row.sent_at, "r8scan", "gateways notified", _CHANNELS[row.channel])


def _announcements(session: Session, incident_id: uuid.UUID) -> Iterator[Moment]:
    statement = select(Announcement).where(Announcement.incident_id == incident_id)
    for row in session.execute(statement).scalars():
        yield Moment(
            row.announced_at, "r8scan", "listed for gateways", f"entry {row.id} of the list of disabled tokens"
        )


def _words(evidence: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_word(value)}" for key, value in sorted(evidence.items()))


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(one) for one in value)
    return "-" if value is None or value == "" else str(value)

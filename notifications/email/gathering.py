"""Reads the facts of mails (the data that they report) from the database."""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from notifications.email.facts import (
    MAX_PLACES,
    MAX_SHORT_TOKENS,
    MAX_TOKENS,
    OPERATOR_OCCASIONS,
    MailFacts,
    PlaceFacts,
    ShortToken,
    TokenFacts,
    UndeliveredMail,
)
from notifications.email.variants import variant_of
from scanner.detection import redact
from scanner.detection.digests import masked
from scanner.records.audit_models import AuditEntry
from scanner.records.models import ApiToken, Exposure, Incident, Notification, NotificationSubject, db_now
from scanner.records.states import Cause, Channel, NotificationState

MAX_SIGNS = 3
MAX_UNDELIVERED = 5

_NOT_PUBLIC = "submission"
"""The kind of a place that is not public: a person submitted the token to GitHub."""


@dataclass(frozen=True, slots=True)
class _Subject:
    occasion: str
    incident_id: uuid.UUID
    token_name: str
    hint: str
    cause: str


@dataclass(frozen=True, slots=True)
class _Totals:
    places: int
    published: int
    published_at: datetime | None
    seen_at: datetime


def gather(session: Session, notification: Notification) -> MailFacts:
    """Return the data that one mail reports, as they are in the database now."""
    now = session.execute(select(db_now())).scalar_one()
    return Gathering(session, [notification], now).facts_of(notification)


class Gathering:
    """The database rows that are needed for the data of the given mails.

    Args:
        session: A transaction.
        rows: The mails.
        now: The database's time. It becomes `MailFacts.frozen_at`.
    """

    def __init__(self, session: Session, rows: Sequence[Notification], now: datetime) -> None:
        self._now = now
        ids = [row.id for row in rows]
        self._subjects = _subjects(session, ids)
        for row in rows:
            if row.channel == Channel.OPERATOR:
                self._subjects[row.id].sort(key=lambda subject: _urgency(subject.occasion))
        shown = {subject.incident_id for row in rows for subject in self._shown(row)}
        found = session.execute(select(Incident).where(Incident.id.in_(shown))).scalars()
        self._incidents = {incident.id: incident for incident in found}
        self._totals = _totals(session, ids)
        self._kinds = _kinds(session, ids)
        self._places = _places(session, shown, max((self._share(row) for row in rows), default=1))
        self._enabled_again = _enabled_again(session, [row.id for row in rows if row.channel != Channel.OPERATOR])
        self._undelivered = _undelivered(session, [row.id for row in rows if row.channel == Channel.OPERATOR])

    def facts_of(self, row: Notification) -> MailFacts:
        """Return the data that the mail `row` reports.

        Raises:
            Exception: the stored data of this mail are damaged. The exception may have any type.
        """
        subjects = self._subjects[row.id]
        incident_ids = {subject.incident_id for subject in subjects}
        causes = {self._cause(subject.incident_id, subject.cause) for subject in subjects}
        variant = variant_of(
            row.channel,
            {subject.occasion for subject in subjects},
            causes,
            {kind for incident_id in incident_ids for kind in self._kinds[incident_id]} - {_NOT_PUBLIC},
        )
        return MailFacts(
            variant=variant,
            frozen_at=self._now,
            tokens=tuple(self._token(row, subject) for subject in self._shown(row)),
            others=tuple(
                ShortToken(redact(subject.token_name), subject.hint, str(subject.incident_id))
                for subject in subjects[MAX_TOKENS : MAX_TOKENS + MAX_SHORT_TOKENS]
            ),
            tokens_total=len(subjects),
            places_total=sum(self._totals[one].places for one in incident_ids if one in self._totals),
            causes=tuple(sorted(causes)),
        )

    def _cause(self, incident_id: uuid.UUID, stored: str) -> str:
        """Return how the incident's token was compromised, as the mail should say it."""
        # If a person submitted the token to GitHub, and r8scan has not found it in public, the stored cause is wrong.
        return Cause.COMPROMISE_SIGNS if self._kinds[incident_id] == {_NOT_PUBLIC} else stored

    def _shown(self, row: Notification) -> list[_Subject]:
        """Return the incidents that the mail describes in full."""
        return self._subjects[row.id][:MAX_TOKENS]

    def _share(self, row: Notification) -> int:
        """Return how many public places the mail may list for one token."""
        return max(1, MAX_PLACES // max(len(self._subjects[row.id]), 1))

    def _token(self, row: Notification, subject: _Subject) -> TokenFacts:
        incident = self._incidents[subject.incident_id]
        totals = self._totals.get(incident.id)
        is_operator = row.channel == Channel.OPERATOR
        undelivered = self._undelivered[incident.id] if is_operator else []
        return TokenFacts(
            incident_id=str(incident.id),
            occasion=subject.occasion,
            name=redact(incident.token_name),
            hint=masked(incident.hint, incident.digest),
            cause=self._cause(incident.id, incident.cause),
            detected_at=incident.detected_at,
            account=redact(incident.account_name) if incident.account_name else None,
            disabled_at=incident.disabled_at,
            published_at=totals.published_at if totals else None,
            published_everywhere=totals is not None and totals.places == totals.published,
            seen_at=totals.seen_at if totals else None,
            last_used_at=incident.token_last_used_at,
            places=tuple(_place(exposure) for exposure in self._places[incident.id][: self._share(row)]),
            places_total=totals.places if totals else 0,
            undelivered=tuple(undelivered[:MAX_UNDELIVERED]),
            undelivered_total=len(undelivered),
            signs=_signs(incident) if is_operator else (),
            brought_back_at=None if is_operator else self._enabled_again.get(incident.id),
        )


def _urgency(occasion: str) -> int:
    """Return a sort key for the reason of a mail. The most urgent reason comes first."""
    return OPERATOR_OCCASIONS.index(occasion) if occasion in OPERATOR_OCCASIONS else len(OPERATOR_OCCASIONS)


def _incident_ids(notification_ids: Sequence[uuid.UUID]) -> Any:
    return select(NotificationSubject.incident_id).where(NotificationSubject.notification_id.in_(notification_ids))


def _subjects(session: Session, notification_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[_Subject]]:
    statement = (
        select(
            NotificationSubject.notification_id,
            *(NotificationSubject.occasion, Incident.id, Incident.token_name),
            *(Incident.hint, Incident.digest, Incident.cause),
        )
        .join(Incident, Incident.id == NotificationSubject.incident_id)
        .where(NotificationSubject.notification_id.in_(notification_ids))
        .order_by(NotificationSubject.id)
    )
    found: dict[uuid.UUID, list[_Subject]] = defaultdict(list)
    for notification_id, occasion, incident_id, token_name, hint, digest, cause in session.execute(statement):
        found[notification_id].append(_Subject(occasion, incident_id, token_name, masked(hint, digest), cause))
    return found


def _totals(session: Session, notification_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, _Totals]:
    statement = (
        select(
            Exposure.incident_id,
            func.count(),
            func.count(Exposure.published_at),
            func.min(Exposure.published_at),
            func.min(Exposure.seen_at),
        )
        .where(Exposure.incident_id.in_(_incident_ids(notification_ids)), Exposure.kind != _NOT_PUBLIC)
        .group_by(Exposure.incident_id)
    )
    return {
        incident_id: _Totals(places, published, published_at, seen_at)
        for incident_id, places, published, published_at, seen_at in session.execute(statement)
    }


def _kinds(session: Session, notification_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, set[str]]:
    statement = (
        select(Exposure.incident_id, Exposure.kind)
        .where(Exposure.incident_id.in_(_incident_ids(notification_ids)))
        .distinct()
    )
    found: dict[uuid.UUID, set[str]] = defaultdict(set)
    for incident_id, kind in session.execute(statement):
        found[incident_id].add(kind)
    return found


def _places(session: Session, incident_ids: set[uuid.UUID], most: int) -> dict[uuid.UUID, list[Exposure]]:
    """Return the first `most` public places of each incident, by the incident's id."""
    number = func.row_number().over(partition_by=Exposure.incident_id, order_by=Exposure.id)
    wanted = (Exposure.incident_id.in_(incident_ids), Exposure.kind != _NOT_PUBLIC)
    numbered = select(Exposure.id, number.label("number")).where(*wanted).subquery()
    statement = (
        select(Exposure).join(numbered, numbered.c.id == Exposure.id).where(numbered.c.number <= most)
    ).order_by(Exposure.id)
    found: dict[uuid.UUID, list[Exposure]] = defaultdict(list)
    for exposure in session.execute(statement).scalars():
        found[exposure.incident_id].append(exposure)
    return found


def _enabled_again(session: Session, notification_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, datetime]:
    """Return when operators enabled tokens again, by the id of the token's incident."""
    statement = (
        select(AuditEntry.incident_id, func.max(AuditEntry.at))
        .join(Incident, Incident.id == AuditEntry.incident_id)
        .join(ApiToken, ApiToken.digest == Incident.digest)
        .where(
            AuditEntry.what == "token_enabled_by_operator",
            AuditEntry.incident_id.in_(_incident_ids(notification_ids)),
            ApiToken.disabled_at.is_(None),
        )
        .group_by(AuditEntry.incident_id)
    )
    return {incident_id: at for incident_id, at in session.execute(statement) if incident_id is not None}


def _signs(incident: Incident) -> tuple[str, ...]:
    """Return the newest compromise reports, one line each."""
    reported = (incident.evidence or {}).get("signs", ())
    lines = (f"{one.get('sign')} by {one.get('reporter')}: {one.get('note') or '-'}" for one in reversed(reported))
    return tuple(redact(line) for line in itertools.islice(lines, MAX_SIGNS))


def _place(row: Exposure) -> PlaceFacts:
    return PlaceFacts(
        kind=row.kind,
        url=redact(row.url),
        seen_at=row.seen_at,
        repository=redact(row.repository) if row.repository else None,
        path=redact(row.path) if row.path else None,
        commit=row.commit,
        ref=redact(row.ref) if row.ref else None,
        line=row.line,
        encoding=redact(row.encoding),
        container=redact(row.container),
        published_at=row.published_at,
    )


def _undelivered(session: Session, notification_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[UndeliveredMail]]:
    """Return the failed mails to owners, by the incident's id."""
    found: dict[uuid.UUID, list[UndeliveredMail]] = defaultdict(list)
    if not notification_ids:
        return found
    statement = (
        select(NotificationSubject.incident_id, Notification.recipient, Notification.error)
        .join(Notification, Notification.id == NotificationSubject.notification_id)
        .where(
            Notification.channel == Channel.EMAIL,
            Notification.state == NotificationState.FAILED,
            NotificationSubject.incident_id.in_(_incident_ids(notification_ids)),
        )
        .order_by(NotificationSubject.id)
    )
    for incident_id, recipient, error in session.execute(statement):
        found[incident_id].append(UndeliveredMail(recipient, redact(error or "")))
    return found

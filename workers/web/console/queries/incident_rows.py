"""Loads the rows of a list of incidents."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from scanner.records.models import Exposure, Incident, NotificationSubject
from scanner.records.states import Channel, Decision

MAX_PLACES_COUNTED = 1000
"""The maximum number of places that a list reads for each incident. A token may be in 100,000 places."""
OWNER_CHANNEL = Channel.EMAIL


@dataclass(frozen=True, slots=True)
class Row:
    """An incident in a list.

    Attributes:
        places: The number of places where the token was found, counted up to a limit.
        repository: The repository of the first place, or an empty string.
        seconds: The seconds from the first known publication until the token was disabled, or None.
        mails: The distinct states of the mails to the owner.
        first: The place that was found first. None for a token that was only reported.
    """

    incident: Incident
    places: int
    repository: str
    seconds: float | None
    mails: tuple[str, ...]
    first: Exposure | None = None

    @property
    def more(self) -> str:
        """Return the number of further places as text, such as "3 more", or ""."""
        if self.places > MAX_PLACES_COUNTED:
            return f"more than {MAX_PLACES_COUNTED - 1:,} more".replace(",", "\N{NARROW NO-BREAK SPACE}")
        return f"{self.places - 1} more" if self.places > 1 else ""


def rows_of(session: Session, incidents: Sequence[Incident], most_places: int = MAX_PLACES_COUNTED) -> list[Row]:
    """Return a row for each incident, in the same order. At most `most_places` + 1 places are counted for each."""
    places = _places(session, [incident.id for incident in incidents], most_places)
    mails = _mail_states(session, [incident.id for incident in incidents])
    found = []
    for incident in incidents:
        known = places.get(incident.id, _Places())
        seconds = None
        if incident.action == Decision.DISABLED and incident.disabled_at and known.published_at:
            seconds = max((incident.disabled_at - known.published_at).total_seconds(), 0.0)
        row = Row(
            incident=incident,
            places=known.number,
            repository=(known.first.repository or "") if known.first else "",
            seconds=seconds,
            mails=tuple(sorted(mails[incident.id])),
            first=known.first,
        )
        found.append(row)
    return found


@dataclass(frozen=True, slots=True)
class _Places:
    """The number of places where a token was found, the earliest publication, and the first place."""

    number: int = 0
    published_at: datetime | None = None
    first: Exposure | None = None


def _places(session: Session, wanted: Sequence[uuid.UUID], most: int) -> dict[uuid.UUID, _Places]:
    """Return a summary of each incident's places. At most `most` + 1 places are counted."""
    place = (
        select(Exposure.seen_at, Exposure.published_at)
        .where(Exposure.incident_id == Incident.id)
        .order_by(Exposure.id)
        .limit(most + 1)
        .correlate(Incident)
        .subquery()
    )
    # Leave out places where the token was found after it was disabled. They did not delay the disabling.
    before = case((place.c.seen_at <= Incident.disabled_at, place.c.published_at))
    statement = select(
        Incident.id,
        select(func.count()).select_from(place).scalar_subquery(),
        select(func.min(before)).select_from(place).scalar_subquery(),
        select(func.min(Exposure.id)).where(Exposure.incident_id == Incident.id).scalar_subquery(),
    ).where(Incident.id.in_(wanted))
    found = session.execute(statement).all()
    firsts = select(Exposure).where(Exposure.id.in_([row[3] for row in found if row[3] is not None]))
    by_id = {exposure.id: exposure for exposure in session.execute(firsts).scalars()}
    return {
        incident_id: _Places(number, published_at, by_id.get(first_id))
        for incident_id, number, published_at, first_id in found
    }


def _mail_states(session: Session, wanted: Sequence[uuid.UUID]) -> dict[uuid.UUID, set[str]]:
    states: dict[uuid.UUID, set[str]] = defaultdict(set)
    # `mail_state` is a copy of the mail's state. Reading the mails themselves would need twice as many disk blocks.
    statement = select(NotificationSubject.incident_id, NotificationSubject.mail_state).where(
        NotificationSubject.incident_id.in_(wanted), NotificationSubject.channel == OWNER_CHANNEL
    )
    for incident_id, state in session.execute(statement):
        states[incident_id].add(state or "waiting")
    return states

"""The database query for the console's page of one incident."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records.audit_models import AuditEntry
from scanner.records.models import ApiToken, Exposure, Incident, Notification, NotificationSubject
from scanner.records.states import IncidentState
from scanner.response.timeline import Moment, timeline

PLACES = 25
MAX_PLACES_COUNTED = 10_000
"""The maximum number of places to count for an incident."""
MAX_MESSAGES = 100
MAX_OTHERS = 20


@dataclass(frozen=True, slots=True)
class Message:
    """An outgoing message about an incident. `occasion` is the reason, such as "disabled"."""

    row: Notification
    occasion: str


@dataclass(frozen=True, slots=True)
class Story:
    """The data for the page of an incident.

    Attributes:
        places: Some of the places where the token was found, in the order of their ids.
        places_total: The number of all these places, at most MAX_PLACES_COUNTED + 1.
        more_places: The id of the last place in `places`, or 0 if there are no more places.
        token: The token in r8scan's own token store, or None.
        others: Other incidents of the same token, newest first.
    """

    incident: Incident
    places: Sequence[Exposure]
    places_total: int
    more_places: int
    messages: Sequence[Message]
    token: ApiToken | None
    notes: Sequence[AuditEntry]
    others: Sequence[Incident]
    moments: Sequence[Moment]


def load(session: Session, incident_id: uuid.UUID, after_place: int = 0) -> Story | None:
    """Return the data for the page of an incident, or None if the id is unknown.

    Args:
        after_place: Return only places with a higher id. To get the next places, pass `Story.more_places`.
    """
    incident = session.get(Incident, incident_id)
    if incident is None:
        return None
    places = select(Exposure).where(Exposure.incident_id == incident_id, Exposure.id > after_place)
    found = list(session.execute(places.order_by(Exposure.id).limit(PLACES + 1)).scalars())
    counted = select(Exposure.id).where(Exposure.incident_id == incident_id).limit(MAX_PLACES_COUNTED + 1).subquery()
    total = select(func.count()).select_from(counted)
    others = select(Incident).where(Incident.digest == incident.digest, Incident.id != incident_id)
    notes = select(AuditEntry).where(AuditEntry.incident_id == incident_id, AuditEntry.what == "note")
    return Story(
        incident=incident,
        places=found[:PLACES],
        places_total=int(session.execute(total).scalar_one()),
        more_places=found[PLACES - 1].id if len(found) > PLACES else 0,
        messages=_messages(session, incident_id),
        token=session.execute(select(ApiToken).where(ApiToken.digest == incident.digest)).scalar_one_or_none(),
        notes=list(session.execute(notes.order_by(AuditEntry.id.desc()).limit(MAX_OTHERS)).scalars()),
        others=list(session.execute(others.order_by(Incident.detected_at.desc()).limit(MAX_OTHERS)).scalars()),
        moments=timeline(session, incident),
    )


def is_open(incident: Incident) -> bool:
    return incident.state == IncidentState.OPEN


def _messages(session: Session, incident_id: uuid.UUID) -> list[Message]:
    statement = (
        select(Notification, NotificationSubject.occasion)
        .join(NotificationSubject)
        .where(NotificationSubject.incident_id == incident_id)
        .order_by(Notification.created_at)
        .limit(MAX_MESSAGES)
    )
    return [Message(row, occasion) for row, occasion in session.execute(statement)]

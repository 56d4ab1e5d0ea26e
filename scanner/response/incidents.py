"""Incidents as rows: looked up, begun, closed over, given places. In batches, as storms come."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.records import audit
from scanner.records.audit import Entry
from scanner.records.models import Exposure, Incident
from scanner.records.states import Cause, Decision, IncidentState
from scanner.response.places import columns_of
from scanner.tokens.protocol import TokenRecord

EXPOSURES_AN_INCIDENT = 5000
"""Places kept of one incident; one token in a hundred thousand forks needs no hundred thousand rows."""

Places = Mapping[str, dict[str, Any]]
"""Columns of places by their keys."""


def opened(session: Session, digests: Collection[str]) -> dict[str, Incident]:
    """The open incidents of tokens, locked: an operator who closes one at this moment comes before us or after us.

    In the order of digests, as everybody takes them.
    """
    statement = (
        select(Incident)
        .where(Incident.digest.in_(digests), Incident.state == IncidentState.OPEN)
        .order_by(Incident.digest)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {incident.digest: incident for incident in session.execute(statement).scalars()}


def begun(token: TokenRecord, hint: str, cause: Cause, now: datetime) -> Incident:
    """A new incident of the token, without an action yet, and in no session."""
    return Incident(
        id=uuid.uuid4(),
        digest=token.digest,
        hint=token.hint or hint,
        token_id=token.id,
        token_name=token.name,
        token_created_at=token.created_at,
        token_last_used_at=token.last_used_at,
        account_id=token.account_id,
        account_name=token.account_name,
        cause=cause,
        action=Decision.UNDECIDED,
        state=IncidentState.OPEN,
        detected_at=now,
    )


def close_over(session: Session, over: Collection[Incident]) -> None:
    """Their tokens were brought back since: what is found now is another incident, and its owner is told of it."""
    if not over:
        return
    for incident in over:
        incident.state = IncidentState.CLOSED
    session.flush()
    reason = {"reason": "the token was brought back"}
    audit.record_all(session, [Entry("incident_closed", reason, incident.id) for incident in over])


def new_places(session: Session, found: Mapping[str, Sequence[Candidate]], source: str) -> dict[str, Places]:
    """By digest, the places where this token was never seen before, in whatever incident."""
    places: dict[str, dict[str, dict[str, Any]]] = {}
    for digest, candidates in found.items():
        places[digest] = {}
        for candidate in candidates:
            columns = columns_of(candidate, source)
            places[digest].setdefault(columns["place_key"], columns)
    keys = {key for of_one in places.values() for key in of_one}
    seen = (
        select(Incident.digest, Exposure.place_key)
        .join(Exposure, Exposure.incident_id == Incident.id)
        .where(Incident.digest.in_(found), Exposure.place_key.in_(keys))
    )
    for digest, key in session.execute(seen):
        places[digest].pop(key, None)
    return dict(places)


def add_places(session: Session, found: Sequence[tuple[Incident, Places]], now: datetime) -> int:
    """Add places to incidents that are flushed, up to the limit of each; how many were added."""
    ids = [incident.id for incident, _ in found]
    counts = select(Exposure.incident_id, func.count()).where(Exposure.incident_id.in_(ids))
    kept = dict(list(session.execute(counts.group_by(Exposure.incident_id))))
    rows: list[dict[str, Any]] = []
    unkept = []
    for incident, places in found:
        room = max(EXPOSURES_AN_INCIDENT - kept.get(incident.id, 0), 0)
        rows += [{"incident_id": incident.id, "seen_at": now, **columns} for columns in list(places.values())[:room]]
        if len(places) > room:
            evidence = {"limit": EXPOSURES_AN_INCIDENT, "not_kept": len(places) - room}
            unkept.append(Entry("exposures_not_kept", evidence, incident.id))
    if rows:
        session.connection().execute(insert(Exposure), rows)
    audit.record_all(session, unkept)
    return len(rows)

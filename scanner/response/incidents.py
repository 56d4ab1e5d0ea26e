"""Stores incidents, and the public places where their tokens were found."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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

MAX_EXPOSURES_PER_INCIDENT = 5000
"""An incident keeps at most this many public places of its token."""

PlaceRows = Mapping[str, dict[str, Any]]
"""Places of a token: the database columns by `place_key`."""


@dataclass(frozen=True, slots=True)
class TokenIncident:
    """A token as the token store describes it, and its incident."""

    token: TokenRecord
    incident: Incident


@dataclass(frozen=True, slots=True)
class IncidentPlaces:
    """An incident, and the new places where its token was found."""

    incident: Incident
    places: PlaceRows


def open_incidents(session: Session, digests: Collection[str]) -> dict[str, Incident]:
    """Lock and return the open incidents of tokens, by digest."""
    statement = (
        select(Incident)
        .where(Incident.digest.in_(digests), Incident.state == IncidentState.OPEN)
        # Lock in the order of digests, so that two transactions cannot deadlock.
        .order_by(Incident.digest)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {incident.digest: incident for incident in session.execute(statement).scalars()}


def new_incident(token: TokenRecord, hint: str, cause: Cause, now: datetime) -> Incident:
    """Return a new incident of the token, without a decision. It is not added to a session."""
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


def done(cause: Cause, what: str) -> str:
    """Return the name of an action in the audit and in the security log.

    Actions on canaries (r8scan's own test tokens) have different names.
    """
    return f"{'canary' if cause == Cause.CANARY else 'token'}_{what}"


def close_reenabled(session: Session, reenabled: Collection[Incident]) -> None:
    """Close incidents whose token was enabled again."""
    if not reenabled:
        return
    for incident in reenabled:
        incident.state = IncidentState.CLOSED
    session.flush()
    reason = {"reason": "the token was enabled again"}
    audit.record_all(session, [Entry("incident_closed", reason, incident.id) for incident in reenabled])


def new_places(session: Session, found: Mapping[str, Sequence[Candidate]], source: str) -> dict[str, PlaceRows]:
    """Return the public places of each token that are not recorded in any of its incidents yet.

    Returns:
        For each digest of `found`, a dict of its new places by `place_key`.
    """
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


def add_places(session: Session, found: Sequence[IncidentPlaces], now: datetime) -> int:
    """Record new public places in the tokens' incidents, at most `MAX_EXPOSURES_PER_INCIDENT` in each.

    The caller must have flushed the incidents.

    Returns:
        The number of added places.
    """
    ids = [one.incident.id for one in found]
    counts = select(Exposure.incident_id, func.count()).where(Exposure.incident_id.in_(ids))
    existing = dict(list(session.execute(counts.group_by(Exposure.incident_id))))
    rows: list[dict[str, Any]] = []
    not_kept = []
    for one in found:
        incident_id, places = one.incident.id, one.places
        room = max(MAX_EXPOSURES_PER_INCIDENT - existing.get(incident_id, 0), 0)
        rows += [{"incident_id": incident_id, "seen_at": now, **columns} for columns in list(places.values())[:room]]
        if len(places) > room:
            evidence = {"limit": MAX_EXPOSURES_PER_INCIDENT, "not_kept": len(places) - room}
            not_kept.append(Entry("exposures_not_kept", evidence, incident_id))
    if rows:
        session.connection().execute(insert(Exposure), rows)
    audit.record_all(session, not_kept)
    return len(rows)

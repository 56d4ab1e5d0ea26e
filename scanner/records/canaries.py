"""Database functions for canary tokens, which r8scan plants in public to prove that it finds leaks."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Select, delete, or_, select
from sqlalchemy.orm import Session

from scanner.records.canary_models import Canary
from scanner.records.columns import insert_or_nothing, is_among
from scanner.records.models import ApiToken, Exposure, Incident, Sighting, TableRow, db_now, table_of
from scanner.records.states import CanaryState, CanaryWay, Cause, Decision

KEPT_DAYS = 40
MAX_SETTLED = 100
"""The maximum number of canaries that one transaction handles."""
SUCCESSES = (Decision.DISABLED, Decision.OBSERVED)
"""The decisions which show that the whole service works."""
UNFINISHED = (Decision.UNDECIDED, Decision.DISABLING)


def is_no_canary() -> ColumnElement[bool]:
    """Return the SQL condition that an incident is not about a canary token (a test token planted by r8scan)."""
    return table_of(Incident).c.cause != Cause.CANARY


def of_planted() -> Select[uuid.UUID]:
    """Return a statement that selects the ids of the incidents about canaries that are still planted."""
    digests = select(Canary.digest).where(Canary.state == CanaryState.PLANTED, Canary.digest.is_not(None))
    return select(Incident.id).where(Incident.digest.in_(digests))


def plant(session: Session, way: CanaryWay, slot: int) -> int | None:
    """Add the row of a canary token. Return its id, or None if another worker has already added one."""
    values = {"way": way, "slot": slot, "state": CanaryState.PLANTED, "place": "", "planted_at": db_now()}
    added = session.execute(insert_or_nothing(session, Canary).values(**values).returning(Canary.id))
    return added.scalar_one_or_none()


def newest(session: Session, way: CanaryWay) -> Canary | None:
    """Return the newest canary token that was planted in this way, or None."""
    statement = select(Canary).where(Canary.way == way).order_by(Canary.planted_at.desc(), Canary.id.desc()).limit(1)
    return session.execute(statement).scalar_one_or_none()


def waiting(session: Session, way: CanaryWay) -> list[int]:
    """Return the ids of planted canaries that no source has found yet, oldest first, at most `MAX_SETTLED`."""
    is_found = or_(
        select(Sighting.id).where(Sighting.digest == Canary.digest).exists(),
        select(Incident.id).where(Incident.digest == Canary.digest).exists(),
    )
    # The digest is unknown if a worker was killed after it published the token.
    unread = (Canary.way == way, Canary.state == CanaryState.PLANTED, or_(Canary.digest.is_(None), ~is_found))
    return list(session.execute(select(Canary.id).where(*unread).order_by(Canary.id).limit(MAX_SETTLED)).scalars())


def since_success(session: Session, way: CanaryWay) -> Sequence[TableRow]:
    """Return the newest successful canary of this way, and all later ones, oldest first, at most `MAX_SETTLED`.

    If no canary was successful, return all. Return rows of the table, no objects (see `table_of`).
    """
    table = table_of(Canary)
    of_way, at = table.c.way == way, table.c.planted_at
    last = select(at).where(of_way, table.c.decision.in_(SUCCESSES)).order_by(at.desc()).limit(1).scalar_subquery()
    statement = select(table).where(of_way, (at >= last) | last.is_(None)).order_by(at, table.c.id).limit(MAX_SETTLED)
    return session.execute(statement).all()


def listed(session: Session, limit: int) -> list[Canary]:
    """Return the newest canary tokens, however they were planted, newest first."""
    return list(
        session.execute(select(Canary).order_by(Canary.planted_at.desc(), Canary.id.desc()).limit(limit)).scalars()
    )


def digests_among(session: Session, digests: Collection[str]) -> set[str]:
    """Return the given digests that belong to canary tokens."""
    if not digests:
        return set()
    found = session.execute(select(Canary.digest).where(is_among(session, Canary.digest, digests))).scalars()
    return {digest for digest in found if digest is not None}


def ended_among(session: Session, digests: Collection[str]) -> set[str]:
    """Return the given digests that belong to canary tokens which are no longer planted or never were."""
    if not digests:
        return set()
    statement = select(Canary.digest).where(
        is_among(session, Canary.digest, digests), Canary.state != CanaryState.PLANTED
    )
    return {digest for digest in session.execute(statement).scalars() if digest is not None}


def decided() -> Select[Canary, Incident]:
    """Return a statement that selects each canary with its incident, if r8scan has decided about the incident."""
    return (
        select(Canary, Incident)
        .join(Incident, Incident.digest == Canary.digest)
        .where(Incident.cause == Cause.CANARY, Incident.action.not_in(UNFINISHED))
    )


def end(session: Session) -> list[str]:
    """Close the canaries about which r8scan has decided, delete their incidents, and return the canaries' digests."""
    rows = session.execute(decided().order_by(Canary.id).limit(MAX_SETTLED)).all()
    for canary, incident in rows:
        if canary.state != CanaryState.PLANTED:
            continue
        first = select(Exposure.source).where(Exposure.incident_id == incident.id).order_by(Exposure.id).limit(1)
        canary.source = session.execute(first).scalar_one_or_none() or _reporter(incident)
        canary.state, canary.decision = CanaryState.ENDED, incident.action
        canary.ended_at = incident.disabled_at or incident.detected_at
    session.flush()
    ids = [incident.id for _, incident in rows]
    if ids:
        # Delete the incidents, so that no statistic counts them.
        session.execute(delete(Incident).where(Incident.id.in_(ids)).execution_options(synchronize_session=False))
    return [canary.digest for canary, _ in rows if canary.digest is not None]


def _reporter(incident: Incident) -> str | None:
    signs = (incident.evidence or {}).get("signs") or [{}]
    reporter: str | None = signs[0].get("reporter")
    return reporter


def purge_expired(session: Session) -> None:
    """Delete canary tokens that are older than KEPT_DAYS."""
    old = Canary.planted_at < db_now(-KEPT_DAYS * 86400)
    session.execute(delete(Canary).where(old).execution_options(synchronize_session=False))


def own_tokens() -> ColumnElement[bool]:
    """Return the SQL condition that a row of r8scan's own table of tokens (`ApiToken`) is a canary token."""
    digest = table_of(Canary).c.digest
    return table_of(ApiToken).c.digest.in_(select(digest).where(digest.is_not(None)))

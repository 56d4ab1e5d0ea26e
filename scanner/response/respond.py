"""The heart: candidates in; tokens disabled, incidents, exposures and notifications written, in one transaction."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.records import announcements, audit, outbox
from scanner.records.announcements import Stopped
from scanner.records.database import Database
from scanner.records.models import Exposure, Incident, db_now
from scanner.response import sightings
from scanner.response.places import columns_of
from scanner.tokens import sql
from scanner.tokens.protocol import LookUp, RemoteStore, TokenRecord

Cause = Literal["public_repository", "compromise_signs"]

CANDIDATES_A_TRANSACTION = 200
"""A repository with 10,000 tokens must not hold the write lock for a minute."""

LET_PASS = ("observed", "protected", "unknown")
"""Actions after which the token may live where it was found: seen there again, it is decided on again."""

EXPOSURES_AN_INCIDENT = 5000
"""Places kept of one incident; one token in a hundred thousand forks needs no hundred thousand rows."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided: how to respond and whom to tell. `mail_window` in seconds.

    `store`: where the tokens are, if not in our own database. `mail_already_disabled`: tell owners also of tokens that
    they have disabled themselves, but that still stand in public. `announce`: the channels by which gateways are told
    to forget what they cached.
    """

    enforce: Literal["disable", "observe"] = "disable"
    operator_email: str | None = None
    mail_window: float = 10
    mail_domain: str = "localhost"
    store: RemoteStore | None = None
    mail_already_disabled: bool = False
    announce: tuple[str, ...] = ()


@dataclass(slots=True)
class Response:
    """What one call did. Counts of candidates by what became of them, and the incidents that are new.

    A digest is in neither set while the store has not been asked. `disabling`: incidents for which a store that is not
    ours has still to be called.
    """

    disabled: list[uuid.UUID] = field(default_factory=list)
    other_incidents: list[uuid.UUID] = field(default_factory=list)
    exposures: int = 0
    known: int = 0
    unknown: int = 0
    disabling: list[uuid.UUID] = field(default_factory=list)
    known_digests: set[str] = field(default_factory=set)
    unknown_digests: set[str] = field(default_factory=set)

    @property
    def has_news(self) -> bool:
        """Whether somebody has to be told."""
        return bool(self.disabled or self.other_incidents)

    def add(self, other: Response) -> None:
        """Take in what a further transaction did."""
        self.disabled += other.disabled
        self.other_incidents += other.other_incidents
        self.disabling += other.disabling
        self.exposures += other.exposures
        self.known += other.known
        self.unknown += other.unknown
        self.known_digests |= other.known_digests
        self.unknown_digests |= other.unknown_digests


def respond(
    database: Database,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    cause: Cause = "public_repository",
) -> Response:
    """Look the candidates up and do what is due, a bounded number of tokens a transaction. Doing it twice does nothing.

    Raises what the database raises when it is away: nothing is lost then, but the caller has to come again.
    """
    total = Response()
    ordered = sorted(candidates, key=lambda candidate: candidate.digest)
    start = 0
    while start < len(ordered):
        end = _end_of_batch(ordered, start)
        with database.write() as session:
            part = respond_within(session, ordered[start:end], source=source, policy=policy, cause=cause)
        total.add(part)
        start = end
    return total


def look_up_again(database: Database, *, policy: Policy, limit: int = CANDIDATES_A_TRANSACTION) -> tuple[int, Response]:
    """Look up the sightings that are due, respond to those that the store knows now; their number, what was done."""
    with database.write() as session:
        rows = sightings.due(session, limit=limit)
        by_source = defaultdict(list)
        for row, candidate in rows:
            by_source[row.source].append(candidate)
        # All of them at once: taken source by source they would be taken in another order than everybody's.
        known = sql.look_up(session, {row.digest for row, _ in rows}, lock=True)
        sightings.settle(session, [row.id for row, _ in rows], known=known)
        total = Response()
        for source, candidates in sorted(by_source.items()):
            total.add(respond_within(session, candidates, source=source, policy=policy))
    return len(rows), total


def respond_within(
    session: Session,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    cause: Cause = "public_repository",
    found: LookUp | None = None,
) -> Response:
    """The same inside the caller's writing transaction. `found`: what a store that is not ours has said already."""
    by_digest: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_digest[candidate.digest].append(candidate)
    response = Response()
    found = found or LookUp(sql.look_up(session, by_digest, lock=True))
    records = {digest: found.records[digest] for digest in by_digest if digest in found.records}
    missing = [candidate for candidate in candidates if candidate.digest not in records]
    strangers = [candidate for candidate in missing if candidate.digest not in found.not_checked]
    if strangers:
        sightings.record(session, strangers, source=source, state="unknown")
    if len(strangers) < len(missing):
        unchecked = [candidate for candidate in missing if candidate.digest in found.not_checked]
        sightings.record(session, unchecked, source=source, state="unchecked")
    response.unknown, response.known = len(strangers), len(candidates) - len(missing)
    response.known_digests.update(records)
    response.unknown_digests.update(by_digest.keys() - records.keys() - found.not_checked)
    news: list[tuple[Incident, TokenRecord]] = []
    for digest in sorted(records):
        decided = _one_token(session, records[digest], by_digest[digest], source, policy, cause, response)
        if decided is not None:
            news.append((decided, records[digest]))
    _tell(session, news, policy)
    return response


def _one_token(
    session: Session,
    token: TokenRecord,
    candidates: Sequence[Candidate],
    source: str,
    policy: Policy,
    cause: Cause,
    response: Response,
) -> Incident | None:
    """Record where the token was found and decide; the incident if somebody has to be told of it."""
    incident = _open_incident(session, token.digest)
    places = _new_places(session, token.digest, candidates, source)
    # A place that was seen before disables nothing a second time: an operator may have brought the token back since.
    if not places and (incident is None or incident.action not in LET_PASS):
        return None
    if incident is not None and token.disabled_at is None and incident.disabled_at is not None:
        _close_over(session, incident)
        incident = None
    now = session.execute(select(db_now())).scalar_one()
    is_new = incident is None
    if incident is None:
        incident = _open(token, candidates[0].hint, cause, now)
        session.add(incident)
        session.flush()
    response.exposures += _expose(session, incident, places, now)
    action = _act(session, token, incident, policy)
    if not is_new and action in (incident.action, "already_disabled"):
        return None
    incident.action = action
    incident.cause = cause
    evidence = {"digest": token.digest, "source": source, "new_places": len(places)}
    audit.record(session, f"token_{action}", evidence, incident_id=incident.id)
    if action == "disabled":
        incident.disabled_at = session.execute(select(db_now())).scalar_one()
        response.disabled.append(incident.id)
    elif action == "disabling":
        incident.next_attempt_at = now
        response.disabling.append(incident.id)
        return None
    elif action == "already_disabled":
        incident.disabled_at = token.disabled_at
        return incident if policy.mail_already_disabled else None
    else:
        response.other_incidents.append(incident.id)
    return incident


def _open_incident(session: Session, digest: str) -> Incident | None:
    """The token's open incident, locked: an operator who closes it at this moment comes before us or after us."""
    statement = (
        select(Incident)
        .where(Incident.digest == digest, Incident.state == "open")
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return session.execute(statement).scalar_one_or_none()


def _act(session: Session, token: TokenRecord, incident: Incident, policy: Policy) -> str:
    """Disable unless somebody decided otherwise; the word for what came of it."""
    if token.disabled_at is not None:
        return "already_disabled"
    if token.is_protected:
        return "protected"
    if policy.enforce == "observe":
        return "observed"
    if policy.store is not None:
        return "disabling"
    return "disabled" if sql.disable(session, token.digest, f"incident {incident.id}") else "already_disabled"


def _close_over(session: Session, incident: Incident) -> None:
    """Its token was brought back since: what is found now is another incident, of which its owner has to be told."""
    incident.state = "closed"
    session.flush()
    audit.record(session, "incident_closed", {"reason": "the token was brought back"}, incident_id=incident.id)


def _open(token: TokenRecord, hint: str, cause: Cause, now: datetime) -> Incident:
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
        action="",
        state="open",
        detected_at=now,
    )


def _new_places(
    session: Session, digest: str, candidates: Sequence[Candidate], source: str
) -> dict[str, dict[str, Any]]:
    """Columns, by key, of the places where this token was never seen before, in whatever incident."""
    seen = select(Exposure.place_key).join(Incident).where(Incident.digest == digest)
    known = set(session.execute(seen).scalars())
    places: dict[str, dict[str, Any]] = {}
    for candidate in candidates:
        columns = columns_of(candidate, source)
        if columns["place_key"] not in known:
            places.setdefault(columns["place_key"], columns)
    return places


def _expose(session: Session, incident: Incident, places: dict[str, dict[str, Any]], now: datetime) -> int:
    """Add the places to the incident, up to its limit; how many were added."""
    kept = session.execute(select(func.count()).where(Exposure.incident_id == incident.id)).scalar_one()
    room = max(EXPOSURES_AN_INCIDENT - kept, 0)
    for columns in list(places.values())[:room]:
        session.add(Exposure(incident_id=incident.id, seen_at=now, **columns))
    if len(places) > room:
        evidence = {"limit": EXPOSURES_AN_INCIDENT, "not_kept": len(places) - room}
        audit.record(session, "exposures_not_kept", evidence, incident_id=incident.id)
    session.flush()
    return min(len(places), room)


def _tell(session: Session, news: Sequence[tuple[Incident, TokenRecord]], policy: Policy) -> None:
    """Notification rows for what was decided; accounts in one order, as every transaction takes them."""
    announcements.announce(
        session, [_stopped(incident) for incident, _ in news if incident.action == "disabled"], policy.announce
    )
    owners: dict[tuple[str, tuple[str, ...], str], list[uuid.UUID]] = defaultdict(list)
    operator: dict[str, list[uuid.UUID]] = defaultdict(list)
    for incident, token in news:
        if incident.action not in ("disabled", "already_disabled"):
            operator[incident.action].append(incident.id)
            continue
        owners[token.account_id or "", token.recipients, incident.action].append(incident.id)
        if not token.recipients and incident.action == "disabled":
            operator["undeliverable"].append(incident.id)
    for (account_id, recipients, occasion), incident_ids in sorted(owners.items()):
        if not recipients and occasion == "already_disabled":
            continue
        outbox.tell_owner(
            session,
            incident_ids,
            account_id=account_id or None,
            recipients=recipients,
            occasion=occasion,
            window=policy.mail_window,
            domain=policy.mail_domain,
        )
    for occasion, incident_ids in sorted(operator.items()):
        outbox.tell_operator(
            session,
            incident_ids,
            occasion,
            policy.operator_email,
            window=policy.mail_window,
            domain=policy.mail_domain,
        )


def _stopped(incident: Incident) -> Stopped:
    assert incident.disabled_at is not None  # noqa: S101 - its action says so
    return Stopped(incident.digest, incident.token_id, incident.cause, incident.disabled_at, incident.id)


def _end_of_batch(ordered: Sequence[Candidate], start: int) -> int:
    """The end of a batch that does not tear the candidates of one digest apart, unless they alone exceed it."""
    end = min(start + CANDIDATES_A_TRANSACTION, len(ordered))
    if end < len(ordered) and ordered[end].digest == ordered[start].digest:
        return end
    while end < len(ordered) and end > start + 1 and ordered[end].digest == ordered[end - 1].digest:
        end -= 1
    return end

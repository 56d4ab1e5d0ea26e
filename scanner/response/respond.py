"""Responds to token candidates (strings that look like tokens): looks them up, disables the real tokens, records
incidents.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.records import audit, canaries, security_log, tallies
from scanner.records.audit import SYSTEM, Entry
from scanner.records.database import Database
from scanner.records.models import Incident, db_now
from scanner.records.states import Cause, Decision, SightingState
from scanner.response import incidents, sightings
from scanner.response.enforcement import enforce
from scanner.response.incidents import IncidentPlaces, PlaceRows, TokenIncident
from scanner.response.notification_queue import queue_notifications
from scanner.response.policy import Policy
from scanner.tokens.protocol import LookUp, TokenRecord

MAX_CANDIDATES_PER_TRANSACTION = 200
"""Limits the duration of a transaction, because it holds the database's write lock."""

MAX_SIGHTINGS = 200
"""One call stores at most this many token candidates that the token store does not know, to look them up again."""
LOOKED_UP_AT_ONCE = 1_000
NOT_RECORDED = "sightings_over_limit"
"""The name of the counter of unknown tokens that were not recorded."""

LIVE_ACTIONS = (Decision.OBSERVED, Decision.PROTECTED, Decision.UNKNOWN)
"""After these actions the token may still work."""


@dataclass(slots=True)
class Response:
    """What was done about some token candidates.

    Attributes:
        other_incidents: the ids of incidents that were decided without disabling the token.
        exposures: the number of newly recorded public places.
        disabling: the ids of incidents for which the remote token store must still be called.
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
    def has_notifications(self) -> bool:
        """Return whether mails or other notifications were queued."""
        return bool(self.disabled or self.other_incidents)

    def add(self, other: Response) -> None:
        """Add the result of a further transaction."""
        self.disabled += other.disabled
        self.other_incidents += other.other_incidents
        self.disabling += other.disabling
        self.exposures += other.exposures
        self.known += other.known
        self.unknown += other.unknown
        self.known_digests |= other.known_digests
        self.unknown_digests |= other.unknown_digests


@dataclass(frozen=True, slots=True)
class LookedUp:
    """How many stored token candidates were looked up again, and what was done about the real tokens."""

    sightings: int
    response: Response


def respond(
    database: Database,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    cause: Cause = Cause.PUBLIC_REPOSITORY,
) -> Response:
    """Look the token candidates up, disable the real tokens, and record what was done.

    A repeated call changes nothing. If the database is unavailable, its error is raised.
    """
    likely, crowd = split_crowd(candidates)
    total = _respond_in_batches(database, likely, source, policy, cause)
    known: list[Candidate] = []
    for start in range(0, len(crowd), LOOKED_UP_AT_ONCE):
        part = crowd[start : start + LOOKED_UP_AT_ONCE]
        with database.write() as session:
            found = policy.access.look_up(session, {candidate.digest for candidate in part}, None)
            kept, left_out = leave_out_unknown(session, part, found, source)
        known += kept
        total.add(left_out)
    total.add(_respond_in_batches(database, known, source, policy, cause))
    return total


def _respond_in_batches(
    database: Database, candidates: Sequence[Candidate], source: str, policy: Policy, cause: Cause
) -> Response:
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


def split_crowd(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Return the `MAX_SIGHTINGS` token candidates that are most likely to be real tokens, and all others.

    A candidate is more likely to be real if few other candidates were found in the same place.
    """
    if len(candidates) <= MAX_SIGHTINGS:
        return list(candidates), []
    spots = [_spot(candidate) for candidate in candidates]
    beside = Counter(spots)
    crowds = [beside[spot] for spot in spots]
    first = dict.fromkeys(candidates[at].digest for at in sorted(range(len(candidates)), key=crowds.__getitem__))
    chosen = set(islice(first, MAX_SIGHTINGS))
    likely = [candidate for candidate in candidates if candidate.digest in chosen]
    return likely, [candidate for candidate in candidates if candidate.digest not in chosen]


def leave_out_unknown(
    session: Session, crowd: Sequence[Candidate], found: LookUp, source: str
) -> tuple[list[Candidate], Response]:
    """Remove the token candidates that the token store does not know.

    Returns:
        The remaining candidates, and a response that counts the removed ones.
    """
    kept = [one for one in crowd if one.digest in found.records or one.digest in found.not_checked]
    left_out = len(crowd) - len(kept)
    tallies.add(session, source, {NOT_RECORDED: left_out})
    unknown_digests = {one.digest for one in crowd} - {one.digest for one in kept}
    return kept, Response(unknown=left_out, unknown_digests=unknown_digests)


def _spot(candidate: Candidate) -> tuple[str | None, str]:
    """Return where the token candidate was found: the git object's id (or None) and the URL."""
    return candidate.place.git_object, candidate.place.url.partition("#L")[0]


def look_up_again(database: Database, *, policy: Policy, limit: int = MAX_CANDIDATES_PER_TRANSACTION) -> LookedUp:
    """Look up again at most `limit` of the stored token candidates that are due, and disable the real tokens."""
    with database.write() as session:
        due = sightings.due(session, limit=limit)
        by_source = defaultdict(list)
        for one in due:
            by_source[one.source].append(one.candidate)
        # Look up the tokens of all sources at once: locking them in several steps could deadlock.
        known = policy.access.look_up(session, {one.candidate.digest for one in due}, None).records
        sightings.settle(session, [one.id for one in due], known=known)
        total = Response()
        for source, candidates in sorted(by_source.items()):
            total.add(respond_within(session, candidates, source=source, policy=policy))
    return LookedUp(len(due), total)


def respond_within(
    session: Session,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    cause: Cause = Cause.PUBLIC_REPOSITORY,
    asked: LookUp | None = None,
) -> Response:
    """Look the token candidates up and disable the real tokens, inside the caller's writing transaction.

    Args:
        asked: The token store's answer from before the transaction (`policy.access.ask`).
    """
    by_digest: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_digest[candidate.digest].append(candidate)
    found = policy.access.look_up(session, by_digest, asked)
    records = {digest: found.records[digest] for digest in by_digest if digest in found.records}
    missing = [candidate for candidate in candidates if candidate.digest not in records]
    # Do not count the token of an ended canary (r8scan's own test token) as unknown.
    ended = canaries.ended_among(session, by_digest.keys() - records.keys() - found.not_checked)
    missing = [candidate for candidate in missing if candidate.digest not in ended]
    unknown = [candidate for candidate in missing if candidate.digest not in found.not_checked]
    if unknown:
        sightings.record(session, unknown, source=source, state=SightingState.UNKNOWN)
    if len(unknown) < len(missing):
        unchecked = [candidate for candidate in missing if candidate.digest in found.not_checked]
        sightings.record(session, unchecked, source=source, state=SightingState.UNCHECKED)
    response = _decide(session, records, by_digest, source, policy, cause)
    response.unknown, response.known = len(unknown), len(candidates) - len(missing)
    response.known_digests.update(records, ended)
    response.unknown_digests.update(by_digest.keys() - records.keys() - ended - found.not_checked)
    return response


def _decide(
    session: Session,
    records: Mapping[str, TokenRecord],
    found: Mapping[str, Sequence[Candidate]],
    source: str,
    policy: Policy,
    cause: Cause,
) -> Response:
    """Record where the tokens were newly found in public, disable the tokens, and queue the notifications."""
    response = Response()
    existing = incidents.open_incidents(session, records)
    places = incidents.new_places(session, {digest: found[digest] for digest in records}, source)
    due = [digest for digest in sorted(records) if places[digest] or _may_be_live(existing.get(digest))]
    if not due:
        return response
    reenabled = [digest for digest in due if digest in existing and _was_reenabled(records[digest], existing[digest])]
    incidents.close_reenabled(session, [existing.pop(digest) for digest in reenabled])
    now = session.execute(select(db_now())).scalar_one()
    planted = canaries.digests_among(session, due)
    causes = {digest: Cause.CANARY if digest in planted else cause for digest in due}
    new = {
        digest: incidents.new_incident(records[digest], found[digest][0].hint, causes[digest], now)
        for digest in due
        if digest not in existing
    }
    to_decide = [TokenIncident(records[digest], new.get(digest) or existing[digest]) for digest in due]
    to_notify: list[TokenIncident] = []
    entries: list[Entry] = []
    for one, taken in zip(to_decide, enforce(session, to_decide, policy), strict=True):
        incident = one.incident
        if incident.digest not in new and taken.action in (incident.action, Decision.ALREADY_DISABLED):
            continue
        evidence = {"digest": incident.digest, "source": source, "new_places": len(places[incident.digest])}
        entries.append(Entry(incidents.done(causes[incident.digest], taken.action), evidence, incident.id))
        incident.action, incident.cause = taken.action, causes[incident.digest]
        if taken.disabled_at is not None:
            incident.disabled_at = taken.disabled_at
        if taken.action == Decision.DISABLING:
            incident.next_attempt_at = now
            response.disabling.append(incident.id)
            continue
        if taken.action == Decision.DISABLED:
            response.disabled.append(incident.id)
        elif taken.action != Decision.ALREADY_DISABLED:
            response.other_incidents.append(incident.id)
        if taken.action != Decision.ALREADY_DISABLED or policy.mail_already_disabled:
            to_notify.append(one)
    session.add_all(new.values())
    session.flush()
    response.exposures += incidents.add_places(
        session, [IncidentPlaces(one.incident, places[one.token.digest]) for one in to_decide], now
    )
    _log_places(session, to_decide, places, source)
    audit.record_all(session, entries)
    queue_notifications(session, to_notify, policy)
    return response


def _log_places(
    session: Session, decided: Sequence[TokenIncident], places: Mapping[str, PlaceRows], source: str
) -> None:
    """Write a line to the security log for each token that was found in a new public place."""
    for one in decided:
        if found := list(places[one.token.digest].values()):
            fields = {"source": source, "places": len(found), "url": found[0]["url"]}
            kind = incidents.done(one.incident.cause, "found")
            security_log.write_after_commit(session, kind, fields, who=SYSTEM, incident_id=one.incident.id)


def _may_be_live(incident: Incident | None) -> bool:
    """Return whether the token's incident is open and the token may still work."""
    return incident is not None and incident.action in LIVE_ACTIONS


def _was_reenabled(token: TokenRecord, incident: Incident) -> bool:
    return token.disabled_at is None and incident.disabled_at is not None


def _end_of_batch(ordered: Sequence[Candidate], start: int) -> int:
    """Return the index after the last token candidate of the batch that begins at `start`."""
    end = min(start + MAX_CANDIDATES_PER_TRANSACTION, len(ordered))
    # Candidates with the same digest stay in one batch, unless they alone exceed the limit.
    if end < len(ordered) and ordered[end].digest == ordered[start].digest:
        return end
    while end < len(ordered) and end > start + 1 and ordered[end].digest == ordered[end - 1].digest:
        end -= 1
    return end

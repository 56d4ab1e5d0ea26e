"""The heart: candidates in; tokens disabled, incidents, exposures and notifications written, in one transaction."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.records import audit, tallies
from scanner.records.audit import Entry
from scanner.records.database import Database
from scanner.records.models import Incident, db_now
from scanner.records.states import Cause, Decision, SightingState
from scanner.response import incidents, sightings
from scanner.response.enforcement import enforce
from scanner.response.notification_queue import queue_notifications
from scanner.response.policy import Policy
from scanner.tokens.protocol import LookUp, TokenRecord

CANDIDATES_A_TRANSACTION = 200
"""A repository with 10,000 tokens must not hold the write lock for a minute."""

MAX_SIGHTINGS = 300
"""Unknown tokens of one call that are recorded, to be looked up again. More of them are a flood of invented tokens."""
LOOKED_UP_AT_ONCE = 1_000
NOT_RECORDED = "sightings_over_limit"
"""The count, of the source, of tokens that the store did not know and that were not recorded."""

LET_PASS = (Decision.OBSERVED, Decision.PROTECTED, Decision.UNKNOWN)
"""Actions after which the token may live where it was found: seen there again, it is decided on again."""


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
    cause: Cause = Cause.PUBLIC_REPOSITORY,
) -> Response:
    """Look the candidates up and do what is due, a bounded number of tokens a transaction. Doing it twice does nothing.

    Raises what the database raises when it is away: nothing is lost then, but the caller has to come again.
    """
    total = Response()
    likely, crowd = split_crowd(candidates)
    _respond_in_batches(database, likely, source, policy, cause, total)
    known: list[Candidate] = []
    for start in range(0, len(crowd), LOOKED_UP_AT_ONCE):
        part = crowd[start : start + LOOKED_UP_AT_ONCE]
        with database.write() as session:
            found = policy.access.look_up(session, {candidate.digest for candidate in part}, None)
            known += leave_out_unknown(session, part, found, source, total)
    _respond_in_batches(database, known, source, policy, cause, total)
    return total


def _respond_in_batches(
    database: Database, candidates: Sequence[Candidate], source: str, policy: Policy, cause: Cause, total: Response
) -> None:
    ordered = sorted(candidates, key=lambda candidate: candidate.digest)
    start = 0
    while start < len(ordered):
        end = _end_of_batch(ordered, start)
        with database.write() as session:
            part = respond_within(session, ordered[start:end], source=source, policy=policy, cause=cause)
        total.add(part)
        start = end


def split_crowd(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Return the candidates of the likeliest MAX_SIGHTINGS tokens, and those of all others.

    Tokens in an object or text with few of them are likelier than those in one with many.
    """
    if len(candidates) <= MAX_SIGHTINGS:
        return list(candidates), []
    beside = Counter(map(_spot, candidates))
    first = dict.fromkeys(one.digest for one in sorted(candidates, key=lambda one: beside[_spot(one)]))
    chosen = set(islice(first, MAX_SIGHTINGS))
    likely = [candidate for candidate in candidates if candidate.digest in chosen]
    return likely, [candidate for candidate in candidates if candidate.digest not in chosen]


def leave_out_unknown(
    session: Session, crowd: Sequence[Candidate], found: LookUp, source: str, response: Response
) -> list[Candidate]:
    """Return those of a crowd that the store knows, or could not be asked about; count the others."""
    kept = [one for one in crowd if one.digest in found.records or one.digest in found.not_checked]
    left_out = len(crowd) - len(kept)
    tallies.add(session, source, {NOT_RECORDED: left_out})
    response.unknown += left_out
    response.unknown_digests.update({one.digest for one in crowd} - {one.digest for one in kept})
    return kept


def _spot(candidate: Candidate) -> tuple[str | None, str]:
    """Return what all candidates of one object or text have in common."""
    return candidate.place.git_object, candidate.place.url.partition("#L")[0]


def look_up_again(database: Database, *, policy: Policy, limit: int = CANDIDATES_A_TRANSACTION) -> tuple[int, Response]:
    """Look up the sightings that are due, respond to those that the store knows now; their number, what was done."""
    with database.write() as session:
        rows = sightings.due(session, limit=limit)
        by_source = defaultdict(list)
        for row, candidate in rows:
            by_source[row.source].append(candidate)
        # All of them at once: taken source by source they would be taken in another order than everybody's.
        known = policy.access.look_up(session, {row.digest for row, _ in rows}, None).records
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
    cause: Cause = Cause.PUBLIC_REPOSITORY,
    asked: LookUp | None = None,
) -> Response:
    """Do the same inside the caller's writing transaction.

    Args:
        asked: what `policy.access.ask` returned before the transaction began.
    """
    by_digest: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_digest[candidate.digest].append(candidate)
    response = Response()
    found = policy.access.look_up(session, by_digest, asked)
    records = {digest: found.records[digest] for digest in by_digest if digest in found.records}
    missing = [candidate for candidate in candidates if candidate.digest not in records]
    strangers = [candidate for candidate in missing if candidate.digest not in found.not_checked]
    if strangers:
        sightings.record(session, strangers, source=source, state=SightingState.UNKNOWN)
    if len(strangers) < len(missing):
        unchecked = [candidate for candidate in missing if candidate.digest in found.not_checked]
        sightings.record(session, unchecked, source=source, state=SightingState.UNCHECKED)
    response.unknown, response.known = len(strangers), len(candidates) - len(missing)
    response.known_digests.update(records)
    response.unknown_digests.update(by_digest.keys() - records.keys() - found.not_checked)
    _decide(session, records, by_digest, source, policy, cause, response)
    return response


def _decide(
    session: Session,
    records: Mapping[str, TokenRecord],
    found: Mapping[str, Sequence[Candidate]],
    source: str,
    policy: Policy,
    cause: Cause,
    response: Response,
) -> None:
    """Record where the tokens were found, do what is due, and queue for those who have to be told."""
    opened = incidents.opened(session, records)
    places = incidents.new_places(session, {digest: found[digest] for digest in records}, source)
    # A place that was seen before disables nothing a second time: an operator may have brought the token back since.
    due = [
        digest
        for digest in sorted(records)
        if places[digest] or (digest in opened and opened[digest].action in LET_PASS)
    ]
    if not due:
        return
    brought_back = [digest for digest in due if digest in opened and _was_brought_back(records[digest], opened[digest])]
    incidents.close_over(session, [opened.pop(digest) for digest in brought_back])
    now = session.execute(select(db_now())).scalar_one()
    new = {
        digest: incidents.begun(records[digest], found[digest][0].hint, cause, now)
        for digest in due
        if digest not in opened
    }
    dealt_with = [new.get(digest) or opened[digest] for digest in due]
    acts = enforce(session, [(records[incident.digest], incident) for incident in dealt_with], policy)
    news: list[tuple[Incident, TokenRecord]] = []
    entries: list[Entry] = []
    for incident, done in zip(dealt_with, acts, strict=True):
        if incident.digest not in new and done.action in (incident.action, Decision.ALREADY_DISABLED):
            continue
        evidence = {"digest": incident.digest, "source": source, "new_places": len(places[incident.digest])}
        entries.append(Entry(f"token_{done.action}", evidence, incident.id))
        incident.action, incident.cause = done.action, cause
        if done.at is not None:
            incident.disabled_at = done.at
        if done.action == Decision.DISABLING:
            incident.next_attempt_at = now
            response.disabling.append(incident.id)
            continue
        if done.action == Decision.DISABLED:
            response.disabled.append(incident.id)
        elif done.action != Decision.ALREADY_DISABLED:
            response.other_incidents.append(incident.id)
        if done.action != Decision.ALREADY_DISABLED or policy.mail_already_disabled:
            news.append((incident, records[incident.digest]))
    session.add_all(new.values())
    session.flush()
    response.exposures += incidents.add_places(
        session, [(incident, places[incident.digest]) for incident in dealt_with], now
    )
    audit.record_all(session, entries)
    queue_notifications(session, news, policy)


def _was_brought_back(token: TokenRecord, incident: Incident) -> bool:
    return token.disabled_at is None and incident.disabled_at is not None


def _end_of_batch(ordered: Sequence[Candidate], start: int) -> int:
    """The end of a batch that does not tear the candidates of one digest apart, unless they alone exceed it."""
    end = min(start + CANDIDATES_A_TRANSACTION, len(ordered))
    if end < len(ordered) and ordered[end].digest == ordered[start].digest:
        return end
    while end < len(ordered) and end > start + 1 and ordered[end].digest == ordered[end - 1].digest:
        end -= 1
    return end

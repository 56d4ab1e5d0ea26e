"""The same response where the tokens are in a store that is not our database, and a call cannot join a transaction.

The incident is recorded as `disabling` before the store is called, and completed after it; whatever a crash or an
outage leaves in between is due again. The incident's id goes along as the key: a token that was disabled under our
own key was disabled by us, also when we never heard the answer.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.records.database import Database, is_conflict
from scanner.records.models import Incident, db_now
from scanner.response import sightings
from scanner.response.finishing import finish
from scanner.response.policy import Cause, Policy
from scanner.response.respond import CANDIDATES_A_TRANSACTION, Response, respond_within
from scanner.tokens.protocol import LookUp, RemoteStore, StoreUnavailable

COMMIT_TRIES = 3
ASK_AGAIN_SECONDS = 15
SETTLING_SECONDS = 120
"""Longer than an answer of the store can be under way: younger disables are newer than what it says."""

_log = logging.getLogger(__name__)


def respond_remotely(
    database: Database,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    store: RemoteStore,
    cause: Cause = "public_repository",
) -> Response:
    """Look up, record, disable, complete. What the store could not be asked about is kept as `unchecked`."""
    found = _ask(store, {candidate.digest for candidate in candidates})
    response = _commit(database, candidates, source, policy, cause, found)
    response.add(finish(database, policy, store, response.disabling))
    return response


def look_up_again_remotely(
    database: Database, *, policy: Policy, store: RemoteStore, limit: int = CANDIDATES_A_TRANSACTION
) -> tuple[int, Response]:
    """Look up the sightings that are due; those that the store could not be asked about stay as they are."""
    with database.read() as session:
        rows = sightings.due(session, limit=limit)
        listed = [(row.id, row.source, candidate) for row, candidate in rows]
    if not listed:
        return 0, Response()
    found = _ask(store, {candidate.digest for _, _, candidate in listed})
    by_source: dict[str, list[Candidate]] = defaultdict(list)
    for _, source, candidate in listed:
        if candidate.digest not in found.not_checked:
            by_source[source].append(candidate)
    total = Response()
    for source in sorted(by_source):
        total.add(_commit(database, by_source[source], source, policy, "public_repository", found))
    told = total.known_digests | total.unknown_digests
    asked = [row_id for row_id, _, candidate in listed if candidate.digest in told]
    with database.write() as session:
        sightings.settle(session, asked, known=total.known_digests)
        put_off = [row_id for row_id, _, candidate in listed if candidate.digest not in told]
        sightings.put_off(session, put_off, seconds=ASK_AGAIN_SECONDS)
    total.add(finish(database, policy, store, total.disabling))
    return len(asked), total


def believed(session: Session, found: LookUp, digests: Collection[str]) -> LookUp:
    """The answer without what it says of tokens that were disabled while it was under way: they are asked for again.

    Taken at its word it would say that somebody has brought them back.
    """
    known = [digest for digest in digests if digest in found.records]
    # Locked before they are looked at: one that is being completed at this moment is waited for.
    statement = (
        select(Incident.digest, Incident.disabled_at, db_now(-SETTLING_SECONDS))
        .where(Incident.digest.in_(known), Incident.state == "open")
        .order_by(Incident.digest)
        .with_for_update()
    )
    stale = {
        digest
        for digest, disabled_at, settled in session.execute(statement)
        if disabled_at is not None and disabled_at > settled and found.records[digest].disabled_at is None
    }
    if not stale:
        return found
    records = {digest: record for digest, record in found.records.items() if digest not in stale}
    return LookUp(records, found.not_checked | stale, found.complaint)


def _ask(store: RemoteStore, digests: Collection[str]) -> LookUp:
    try:
        return store.look_up(digests)
    except StoreUnavailable as err:
        _log.error("the token store is away: %s; what was found is kept and looked up when it is back", err)
        return LookUp({}, frozenset(digests))


def _commit(
    database: Database,
    candidates: Sequence[Candidate],
    source: str,
    policy: Policy,
    cause: Cause,
    found: LookUp,
) -> Response:
    """One transaction a batch. No row of the store's can be locked: who comes second meets the first one's incident."""
    total = Response()
    ordered = sorted(candidates, key=lambda candidate: candidate.digest)
    for start in range(0, len(ordered), CANDIDATES_A_TRANSACTION):
        batch = ordered[start : start + CANDIDATES_A_TRANSACTION]
        for tries_left in reversed(range(COMMIT_TRIES)):
            try:
                with database.write() as session:
                    known = believed(session, found, {candidate.digest for candidate in batch})
                    part = respond_within(session, batch, source=source, policy=policy, cause=cause, found=known)
            except DBAPIError as err:
                if not tries_left or not is_conflict(err):
                    raise
            else:
                total.add(part)
                break
    return total

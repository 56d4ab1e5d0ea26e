"""The same response where the tokens are in a store that is not our database, and a call cannot join a transaction.

The incident is recorded as `disabling` before the store is called, and completed after it; whatever a crash or an
outage leaves in between is due again. The incident's id goes along as the key: a token that was disabled under our
own key was disabled by us, also when we never heard the answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from scanner.detection import Candidate
from scanner.records.database import Database, is_conflict
from scanner.records.states import Cause
from scanner.response import sightings
from scanner.response.finishing import finish
from scanner.response.policy import Policy
from scanner.response.respond import (
    CANDIDATES_A_TRANSACTION,
    Response,
    leave_out_unknown,
    respond_within,
    split_crowd,
)
from scanner.response.store_access import RemoteAccess
from scanner.tokens.protocol import LookUp

COMMIT_TRIES = 3
ASK_AGAIN_SECONDS = 15


def respond_remotely(
    database: Database,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    access: RemoteAccess,
    cause: Cause = Cause.PUBLIC_REPOSITORY,
) -> Response:
    """Look up, record, disable, complete. What the store could not be asked about is kept as `unchecked`."""
    found = access.ask(lambda: {candidate.digest for candidate in candidates})
    likely, crowd = split_crowd(candidates)
    response = _commit(database, likely, source, policy, cause, found)
    if crowd:
        with database.write() as session:
            known = leave_out_unknown(session, crowd, found, source, response)
        response.add(_commit(database, known, source, policy, cause, found))
    response.add(finish(database, policy, access.store, response.disabling))
    return response


def look_up_again_remotely(
    database: Database, *, policy: Policy, access: RemoteAccess, limit: int = CANDIDATES_A_TRANSACTION
) -> tuple[int, Response]:
    """Look up the sightings that are due; those that the store could not be asked about stay as they are."""
    with database.read() as session:
        rows = sightings.due(session, limit=limit)
        listed = [(row.id, row.source, candidate) for row, candidate in rows]
    if not listed:
        return 0, Response()
    found = access.ask(lambda: {candidate.digest for _, _, candidate in listed})
    by_source: dict[str, list[Candidate]] = defaultdict(list)
    for _, source, candidate in listed:
        if candidate.digest not in found.not_checked:
            by_source[source].append(candidate)
    total = Response()
    for source in sorted(by_source):
        total.add(_commit(database, by_source[source], source, policy, Cause.PUBLIC_REPOSITORY, found))
    told = total.known_digests | total.unknown_digests
    asked = [row_id for row_id, _, candidate in listed if candidate.digest in told]
    with database.write() as session:
        sightings.settle(session, asked, known=total.known_digests)
        defer = [row_id for row_id, _, candidate in listed if candidate.digest not in told]
        sightings.defer(session, defer, seconds=ASK_AGAIN_SECONDS)
    total.add(finish(database, policy, access.store, total.disabling))
    return len(asked), total


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
                    part = respond_within(session, batch, source=source, policy=policy, cause=cause, asked=found)
            except DBAPIError as err:
                if not tries_left or not is_conflict(err):
                    raise
            else:
                total.add(part)
                break
    return total

"""Looks up found tokens in a remote token store, records incidents, and disables the tokens.

Each incident is recorded as `disabling` before the store is called, and completed afterwards. A call that a crash
interrupts is repeated with the incident's id as its idempotency key.
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
    MAX_CANDIDATES_PER_TRANSACTION,
    LookedUp,
    Response,
    leave_out_unknown,
    respond_within,
    split_crowd,
)
from scanner.response.store_access import RemoteAccess
from scanner.tokens.protocol import LookUp

MAX_COMMIT_TRIES = 3
ASK_AGAIN_SECONDS = 15
"""If the token store is unavailable, a token candidate is looked up again after this time."""


def respond_remotely(
    database: Database,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    access: RemoteAccess,
    cause: Cause = Cause.PUBLIC_REPOSITORY,
) -> Response:
    """Look token candidates up in the remote token store, record incidents, and disable the real tokens.

    Candidates that cannot be looked up now are stored and looked up later.
    """
    found = access.ask(lambda: {candidate.digest for candidate in candidates})
    likely, crowd = split_crowd(candidates)
    response = _commit(database, likely, source, policy, cause, found)
    if crowd:
        with database.write() as session:
            known, left_out = leave_out_unknown(session, crowd, found, source)
        response.add(left_out)
        response.add(_commit(database, known, source, policy, cause, found))
    response.add(finish(database, policy, access.store, response.disabling))
    return response


def look_up_again_remotely(
    database: Database, *, policy: Policy, access: RemoteAccess, limit: int = MAX_CANDIDATES_PER_TRANSACTION
) -> LookedUp:
    """Look up again at most `limit` of the stored token candidates that are due.

    Disable the tokens that the store knows now. Failed look-ups are due again after `ASK_AGAIN_SECONDS`.
    """
    with database.read() as session:
        due = sightings.due(session, limit=limit)
    if not due:
        return LookedUp(0, Response())
    found = access.ask(lambda: {one.candidate.digest for one in due})
    by_source: dict[str, list[Candidate]] = defaultdict(list)
    for one in due:
        if one.candidate.digest not in found.not_checked:
            by_source[one.source].append(one.candidate)
    total = Response()
    for source in sorted(by_source):
        total.add(_commit(database, by_source[source], source, policy, Cause.PUBLIC_REPOSITORY, found))
    answered = total.known_digests | total.unknown_digests
    answered_ids = [one.id for one in due if one.candidate.digest in answered]
    with database.write() as session:
        sightings.settle(session, answered_ids, known=total.known_digests)
        unanswered_ids = [one.id for one in due if one.candidate.digest not in answered]
        sightings.defer(session, unanswered_ids, seconds=ASK_AGAIN_SECONDS)
    total.add(finish(database, policy, access.store, total.disabling))
    return LookedUp(len(answered_ids), total)


def _commit(
    database: Database,
    candidates: Sequence[Candidate],
    source: str,
    policy: Policy,
    cause: Cause,
    found: LookUp,
) -> Response:
    """Record the response to the token candidates. `found` is the token store's answer."""
    total = Response()
    ordered = sorted(candidates, key=lambda candidate: candidate.digest)
    for start in range(0, len(ordered), MAX_CANDIDATES_PER_TRANSACTION):
        batch = ordered[start : start + MAX_CANDIDATES_PER_TRANSACTION]
        # Another transaction may have opened an incident of the same token. Then try again with that incident.
        for tries_left in reversed(range(MAX_COMMIT_TRIES)):
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

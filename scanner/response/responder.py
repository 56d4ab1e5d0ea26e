"""From candidates to what is done about them, wherever the tokens are: the way in for everybody who finds something."""

from __future__ import annotations

from collections.abc import Sequence

from scanner.detection import Candidate
from scanner.records.database import Database
from scanner.response import remote, respond
from scanner.response.respond import Cause, Policy, Response


def respond_to(
    database: Database,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    cause: Cause = "public_repository",
) -> Response:
    """Look the candidates up and do what is due. Doing it twice does nothing.

    Raises what the database raises when it is away: nothing is lost then, but the caller has to come again. A token
    store that is away raises nothing: the candidates are kept and looked up when it is back.
    """
    if policy.store is None:
        return respond.respond(database, candidates, source=source, policy=policy, cause=cause)
    return remote.respond_remotely(database, candidates, source=source, policy=policy, store=policy.store, cause=cause)


def look_up_due(database: Database, *, policy: Policy) -> tuple[int, Response]:
    """Look up the sightings that are due; their number, what was done."""
    if policy.store is None:
        return respond.look_up_again(database, policy=policy)
    return remote.look_up_again_remotely(database, policy=policy, store=policy.store)


def finish_due(database: Database, *, policy: Policy) -> Response:
    """Complete disables that a crash or an outage of the store left half-done."""
    return Response() if policy.store is None else remote.finish_due(database, policy, policy.store)

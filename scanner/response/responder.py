"""From candidates to what is done about them, wherever the tokens are: the way in for everybody who finds something."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import func, select

from scanner.detection import Candidate
from scanner.records.database import Database, is_unavailable
from scanner.records.models import Exposure, Incident
from scanner.records.states import Cause, Decision, IncidentState
from scanner.response import sightings
from scanner.response.paths import path_of
from scanner.response.places import candidate_of
from scanner.response.policy import Policy
from scanner.response.respond import CANDIDATES_A_TRANSACTION, Response

MAX_DECIDED_AGAIN = 1000
"""Of a page."""
PAGES_DECIDED_AGAIN = 50
SPOILT_SECONDS = 3600

_log = logging.getLogger(__name__)


def respond_to(
    database: Database,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    cause: Cause = Cause.PUBLIC_REPOSITORY,
) -> Response:
    """Look the candidates up and do what is due. Doing it twice does nothing.

    Raises what the database raises when it is away: nothing is lost then, but the caller has to come again. A token
    store that is away raises nothing: the candidates are kept and looked up when it is back.
    """
    return path_of(policy).respond(database, candidates, source=source, policy=policy, cause=cause)


def look_up_due(database: Database, *, policy: Policy) -> tuple[int, Response]:
    """Look up the sightings that are due; their number, what was done.

    One that cannot be dealt with, for whatever reason, costs the others nothing: it is put off for an hour, and logged.
    """
    try:
        return _look_up_due(database, policy, CANDIDATES_A_TRANSACTION)
    except Exception as err:
        if is_unavailable(err):
            raise
        _log.exception("sightings could not be looked up together: one by one now")
    total, count = Response(), 0
    for _ in range(CANDIDATES_A_TRANSACTION):
        try:
            looked_up, response = _look_up_due(database, policy, 1)
        except Exception as err:
            if is_unavailable(err):
                raise
            _log.error("a sighting cannot be looked up (%s): put off for an hour", type(err).__name__)
            looked_up, response = _put_off_next(database), Response()
        total.add(response)
        count += looked_up
        if not looked_up:
            break
    return count, total


def _look_up_due(database: Database, policy: Policy, limit: int) -> tuple[int, Response]:
    return path_of(policy).look_up_again(database, policy=policy, limit=limit)


def _put_off_next(database: Database) -> int:
    with database.write() as session:
        ids = [row.id for row, _ in sightings.due(session, limit=1)]
        sightings.defer(session, ids, seconds=SPOILT_SECONDS)
    return len(ids)


def decide_again(database: Database, *, policy: Policy) -> Response:
    """Decide once more on tokens that were found in public and let live: by `observe`, by their protection.

    What was decided since, enforcing or taking a protection away, thus reaches what nobody may ever see again. Those
    for which nothing has changed stay as they are.
    """
    wanted = (Decision.PROTECTED,) if policy.enforce == "observe" else (Decision.PROTECTED, Decision.OBSERVED)
    first = select(func.min(Exposure.id)).group_by(Exposure.incident_id)
    # Select only tokens for which something has changed, if the database can tell: the others would fill the pages.
    changed = policy.access.live_only(Incident.digest, even_protected=Incident.action != Decision.PROTECTED)
    total, last = Response(), 0
    for _ in range(PAGES_DECIDED_AGAIN):
        with database.read() as session:
            rows = session.execute(
                select(Incident.digest, Incident.hint, Exposure)
                .join(Exposure, Exposure.incident_id == Incident.id)
                .where(
                    Incident.state == IncidentState.OPEN, Incident.action.in_(wanted), Exposure.id.in_(first), *changed
                )
                .where(Exposure.id > last)
                .order_by(Exposure.id)
                .limit(MAX_DECIDED_AGAIN)
            ).all()
            found = [candidate_of(exposure, digest, hint) for digest, hint, exposure in rows]
        if found:
            total.add(respond_to(database, found, source="decided_again", policy=policy))
        if len(rows) < MAX_DECIDED_AGAIN:
            break
        last = rows[-1][2].id
    return total


def finish_due(database: Database, *, policy: Policy) -> Response:
    """Complete disables that a crash or an outage of the store left half-done."""
    return path_of(policy).finish_due(database, policy=policy)

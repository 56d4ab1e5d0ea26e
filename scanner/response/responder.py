"""The functions with which all sources respond to token candidates, for every kind of token store."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import func, select

from scanner.detection import Candidate
from scanner.records.database import Database, is_unavailable
from scanner.records.models import Exposure, Incident
from scanner.records.states import Cause, Decision, EnforceMode, IncidentState
from scanner.response import sightings
from scanner.response.paths import path_of
from scanner.response.places import candidate_of
from scanner.response.policy import Policy
from scanner.response.respond import MAX_CANDIDATES_PER_TRANSACTION, LookedUp, Response

EXPOSURES_PER_PAGE = 1000
"""The number of recorded places that `decide_again` reads in one query."""
MAX_PAGES = 50
"""The number of queries in one run of `decide_again`."""
DEFER_FAILED_SECONDS = 3600
"""If the look-up of a stored token candidate fails unexpectedly, it is tried again after this time."""

_log = logging.getLogger(__name__)


def respond_to(
    database: Database,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    cause: Cause = Cause.PUBLIC_REPOSITORY,
) -> Response:
    """Look the token candidates up, disable the real tokens, record incidents and queue mails.

    A repeated call changes nothing. If the database is unavailable, its error is raised. If a remote token store is
    unavailable, the candidates are stored and looked up later.
    """
    return path_of(policy).respond(database, candidates, source=source, policy=policy, cause=cause)


def look_up_due(database: Database, *, policy: Policy) -> LookedUp:
    """Look up again the stored token candidates that are due, and disable the real tokens."""
    try:
        return _look_up_due(database, policy, MAX_CANDIDATES_PER_TRANSACTION)
    except Exception as err:
        if is_unavailable(err):
            raise
        _log.exception("the due sightings could not be looked up together; they are now looked up one by one")
    total, count = Response(), 0
    for _ in range(MAX_CANDIDATES_PER_TRANSACTION):
        try:
            looked_up = _look_up_due(database, policy, 1)
        except Exception as err:
            if is_unavailable(err):
                raise
            _log.error("a sighting could not be looked up (%s) and is deferred by an hour", type(err).__name__)
            looked_up = LookedUp(_defer_next(database), Response())
        total.add(looked_up.response)
        count += looked_up.sightings
        if not looked_up.sightings:
            break
    return LookedUp(count, total)


def _look_up_due(database: Database, policy: Policy, limit: int) -> LookedUp:
    return path_of(policy).look_up_again(database, policy=policy, limit=limit)


def _defer_next(database: Database) -> int:
    with database.write() as session:
        ids = [one.id for one in sightings.due(session, limit=1)]
        sightings.defer(session, ids, seconds=DEFER_FAILED_SECONDS)
    return len(ids)


def decide_again(database: Database, *, policy: Policy) -> Response:
    """Decide again on public tokens that were left enabled because of the mode `observe` or their protection."""
    is_observing = policy.enforce == EnforceMode.OBSERVE
    actions = (Decision.PROTECTED,) if is_observing else (Decision.PROTECTED, Decision.OBSERVED)
    first = select(func.min(Exposure.id)).group_by(Exposure.incident_id)
    # Leave out tokens that would stay enabled, so that they do not use up MAX_PAGES.
    changed = policy.access.live_only(Incident.digest, even_protected=Incident.action != Decision.PROTECTED)
    total, last = Response(), 0
    for _ in range(MAX_PAGES):
        with database.read() as session:
            rows = session.execute(
                select(Incident.digest, Incident.hint, Exposure)
                .join(Exposure, Exposure.incident_id == Incident.id)
                .where(
                    Incident.state == IncidentState.OPEN, Incident.action.in_(actions), Exposure.id.in_(first), *changed
                )
                .where(Exposure.id > last)
                .order_by(Exposure.id)
                .limit(EXPOSURES_PER_PAGE)
            ).all()
            found = [candidate_of(exposure, digest, hint) for digest, hint, exposure in rows]
        if found:
            total.add(respond_to(database, found, source="decided_again", policy=policy))
        if len(rows) < EXPOSURES_PER_PAGE:
            break
        last = rows[-1][2].id
    return total


def finish_due(database: Database, *, policy: Policy) -> Response:
    """Disable the tokens of incidents that a crash or an outage left in the state `disabling`."""
    return path_of(policy).finish_due(database, policy=policy)

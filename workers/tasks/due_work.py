"""One database query that says which kinds of work are due."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, or_, select

from notifications.claiming import OPEN
from scanner.compromise.settling import UNDECIDED_STATES
from scanner.records import canaries, leases
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import Incident, Notification, ScanJob, Sighting, db_now
from scanner.records.states import OPEN_JOB_STATES, Decision, SightingState


@dataclass(frozen=True, slots=True)
class DueWork:
    """The kinds of work that may be due now. A field may be True although nothing is due."""

    look_up: bool = True
    finish: bool = True
    settle_canaries: bool = True
    settle_reports: bool = True
    shed_sightings: bool = True
    wake: bool = True


def due_work(database: Database, *, max_sightings: int) -> DueWork:
    """Return the kinds of work that may be due now. This is called every two seconds, so it must be cheap.

    Args:
        max_sightings: The maximum number of stored tokens that may wait to be confirmed.
    """
    with database.read() as session:
        *due, sightings = session.execute(_statement()).one()
    look_up, finish, settle_canaries, settle_reports, wake = map(bool, due)
    # `sightings` estimates the number of rows by the highest id minus the lowest, because counting would be slow.
    return DueWork(look_up, finish, settle_canaries, settle_reports, (sightings or 0) >= max_sightings, wake)


@cache
def _statement() -> Select[Any]:
    """Return the SQL query for `due_work`."""
    last, first = (select(limit(Sighting.id)).scalar_subquery() for limit in (func.max, func.min))
    return select(
        # The state does not matter here. Name all states, because the database's index begins with the state.
        _any(Sighting.state.in_(tuple(SightingState)), Sighting.next_check_at <= db_now()),
        _any(Incident.action == Decision.DISABLING, leases.is_due(Incident)),
        canaries.decided().exists(),
        _any(Report.state.in_(UNDECIDED_STATES), Report.next_check_at <= db_now()),
        # Include jobs that are not due yet, because `_wake_due` drops some of them if too many wait.
        or_(
            _any(ScanJob.state.in_(OPEN_JOB_STATES)),
            _any(Notification.state.in_(OPEN), leases.is_due(Notification)),
        ),
        last - first,
    )


def _any(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(*conditions)

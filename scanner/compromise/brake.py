"""The brake: so many disables a minute by report or rule, then they wait until an operator says go on.

One mistaken report of ten thousand digests must not be an outage. What was found in public, or proven by possession,
is never held.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from scanner.records import audit, outbox
from scanner.records.columns import insert_or_nothing
from scanner.records.compromise_models import Brake, Report
from scanner.records.models import Incident, db_now
from scanner.records.states import Decision, IncidentState, ReportState
from scanner.response.policy import Policy

_ROW = 1
WINDOW_SECONDS = 60
ROWS_A_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class Status:
    """`closed_at` None: disables go through. Counts of reports that are held, and of disables in the last minute."""

    closed_at: datetime | None
    reason: str
    held: int
    disabled_last_minute: int


class Gate:
    """The brake within one transaction: asked before each disable, it counts, and closes when there are too many.

    Takes the brake's row at the first question, so that transactions that disable by report count one after another.
    """

    def __init__(self, session: Session, per_minute: int) -> None:
        self._session = session
        self._per_minute = per_minute
        self._row: Brake | None = None
        self._room = 0
        self.has_closed_now = False

    def lets_through(self) -> bool:
        """Whether one more token may be disabled now; True counts it."""
        if self._row is None:
            self._row = _locked(self._session)
            self._room = self._per_minute - _disabled_last_minute(self._session)
        if self._row.closed_at is not None:
            return False
        if self._room <= 0:
            self._close(self._row)
            return False
        self._room -= 1
        return True

    def _close(self, row: Brake) -> None:
        row.closed_at = self._session.execute(select(db_now())).scalar_one()
        row.reason = f"more than {self._per_minute} tokens a minute were to be disabled by report or rule"
        self.has_closed_now = True
        audit.record(self._session, "brake_closed", {"per_minute": self._per_minute})


def tell(session: Session, incident_ids: Sequence[uuid.UUID], policy: Policy) -> None:
    """Queue the operator's mail that the brake has closed, with the first incident that it holds."""
    outbox.tell_operator(
        session,
        list(incident_ids)[:1],
        "brake_closed",
        policy.operator_email,
        window=policy.mail_window,
        domain=policy.mail_domain,
    )


def status(session: Session) -> Status:
    """How the brake stands."""
    row = session.get(Brake, _ROW)
    held = session.execute(
        select(func.count()).select_from(Report).where(Report.state == ReportState.HELD)
    ).scalar_one()
    used = _disabled_last_minute(session)
    return Status(row.closed_at if row else None, row.reason if row else "", held, used)


def release(session: Session, *, who: str) -> list[int]:
    """Open the brake and let what it holds go on, without counting it; the ids to be settled, by digest."""
    row = _locked(session)
    ids = _held_ids(session)
    for chunk in _chunks(ids):
        session.execute(
            update(Report)
            .where(Report.id.in_(chunk))
            .values(state=ReportState.RECEIVED, is_braked=False, next_check_at=db_now())
        )
    _open(session, row, "brake_released", len(ids), who)
    return ids


def reject(session: Session, *, who: str) -> int:
    """Open the brake and let go of what it holds: nothing is disabled, its incidents are closed; the number."""
    row = _locked(session)
    ids = _held_ids(session)
    for chunk in _chunks(ids):
        incidents = select(Report.incident_id).where(Report.id.in_(chunk))
        session.execute(
            update(Incident)
            .where(Incident.id.in_(incidents), Incident.state == IncidentState.OPEN, Incident.action == Decision.HELD)
            .values(action=Decision.REJECTED, state=IncidentState.CLOSED)
            .execution_options(synchronize_session=False)
        )
        session.execute(
            update(Report)
            .where(Report.id.in_(chunk))
            .values(state=ReportState.REJECTED, decision=Decision.REJECTED, decided_at=db_now())
        )
    _open(session, row, "brake_rejected", len(ids), who)
    return len(ids)


def _open(session: Session, row: Brake, what: str, reports: int, who: str) -> None:
    was_closed_at = row.closed_at
    row.closed_at, row.reason = None, ""
    evidence = {"reports": reports, "closed_at": was_closed_at.isoformat() if was_closed_at else None}
    audit.record(session, what, evidence, who=who)


def _locked(session: Session) -> Brake:
    session.execute(insert_or_nothing(session, Brake).values(id=_ROW, reason=""))
    statement = select(Brake).where(Brake.id == _ROW).with_for_update().execution_options(populate_existing=True)
    return session.execute(statement).scalar_one()


def _held_ids(session: Session) -> list[int]:
    statement = select(Report.id).where(Report.state == ReportState.HELD).order_by(Report.digest, Report.id)
    return list(session.execute(statement).scalars())


def _disabled_last_minute(session: Session) -> int:
    counted = (
        Report.decision.in_((Decision.DISABLED, Decision.DISABLING)),
        Report.is_braked,
        Report.decided_at > db_now(-WINDOW_SECONDS),
    )
    return session.execute(select(func.count()).select_from(Report).where(*counted)).scalar_one()


def _chunks(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + ROWS_A_STATEMENT] for start in range(0, len(ids), ROWS_A_STATEMENT)]

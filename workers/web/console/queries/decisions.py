"""Database queries for the decisions that wait for an operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.compromise import brake_status
from scanner.records.audit_models import AuditEntry
from scanner.records.canaries import is_no_canary
from scanner.records.compromise_models import Report
from scanner.records.models import Incident, db_now
from scanner.records.states import Decision, IncidentState, ReportState
from workers.web.console.queries.incident_rows import Row, rows_of

MAX_SHOWN = 50
MAX_COUNTED = 1000
BRAKE_DECISIONS = ("brake_released", "brake_rejected")
"""The actions in the audit log that are decisions about all waiting reports."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many decisions of each kind wait for an operator.

    Attributes:
        at: The database's time when the numbers were read.
        closed_at: Since when reports must wait for an operator. None if they need not wait now.
        reason: Why reports must wait.
        held: The number of waiting reports.
        held_since: When the oldest waiting report was received.
        protected: The number of leaked protected tokens, at most MAX_COUNTED + 1.
        flagged: The number of tokens with suspicious usage, at most MAX_COUNTED + 1.
    """

    at: datetime
    closed_at: datetime | None
    reason: str
    held: int
    held_since: datetime | None
    protected: int
    flagged: int

    @property
    def total(self) -> int:
        """Return the number of decisions. All waiting reports together count as one."""
        return self.protected + self.flagged + (1 if self.held or self.closed_at else 0)


def waiting(session: Session) -> Waiting:
    """Return how many decisions of each kind wait for an operator."""
    status = brake_status.read(session)
    oldest = select(func.min(Report.received_at)).where(Report.state == ReportState.HELD)
    protected, flagged = (_open_count(session, action) for action in (Decision.PROTECTED, Decision.FLAGGED))
    return Waiting(
        at=_now(session),
        closed_at=status.closed_at,
        reason=status.reason,
        held=status.held,
        held_since=session.execute(oldest).scalar_one(),
        protected=protected,
        flagged=flagged,
    )


def open_with(session: Session, action: Decision) -> list[Row]:
    """Return the newest open incidents with this decision, at most MAX_SHOWN."""
    statement = (
        select(Incident)
        .where(Incident.action == action, Incident.state == IncidentState.OPEN, is_no_canary())
        .order_by(Incident.detected_at.desc())
        .limit(MAX_SHOWN)
    )
    return rows_of(session, list(session.execute(statement).scalars()))


def _open_count(session: Session, action: Decision) -> int:
    inner = (
        select(Incident.id)
        .where(Incident.action == action, Incident.state == IncidentState.OPEN, is_no_canary())
        .limit(MAX_COUNTED + 1)
        .subquery()
    )
    return int(session.execute(select(func.count()).select_from(inner)).scalar_one())


def _now(session: Session) -> datetime:
    return session.execute(select(db_now())).scalar_one()


def last_brake_decision(session: Session) -> AuditEntry | None:
    """Return the audit entry of the latest decision about waiting reports, or None."""
    # Without "+ 0", PostgreSQL would search the audit log backwards for these rare entries, which is slow.
    newest = select(func.max(AuditEntry.id + 0)).where(AuditEntry.what.in_(BRAKE_DECISIONS))
    last_id = session.execute(newest).scalar()
    return None if last_id is None else session.get(AuditEntry, last_id)

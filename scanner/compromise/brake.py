"""Limits how many tokens per minute are disabled because of reports and usage rules.

When the limit is exceeded, further reports wait for an operator's approval.
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
from scanner.records.states import Decision, IncidentState, Occasion, ReportState
from scanner.response.policy import Policy

_ROW = 1
WINDOW_SECONDS = 60
ROWS_PER_STATEMENT = 500
MAX_HELD_GROUPS = 20
"""The operator sees at most this many groups of waiting reports."""


@dataclass(frozen=True, slots=True)
class BrakeStatus:
    """The state of the limit on how many tokens are disabled because of reports and usage rules.

    Attributes:
        closed_at: when reports began to wait for an operator; None if they do not wait.
        disabled_last_minute: the number of tokens disabled in the last minute that count towards the limit.
    """

    closed_at: datetime | None
    reason: str
    held: int
    disabled_last_minute: int


class DisableQuota:
    """Counts, within one transaction, how many tokens are disabled because of reports and usage rules.

    Args:
        per_minute: How many tokens reports and rules may disable in one minute.
    """

    def __init__(self, session: Session, per_minute: int) -> None:
        self._session = session
        self._per_minute = per_minute
        self._row: Brake | None = None
        self._room = 0
        self.has_closed_now = False

    def try_take(self) -> bool:
        """Count one token to be disabled. Return False if the limit is reached, or earlier reports already wait for an
        operator.
        """
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
        row.reason = f"reports and rules asked to disable more than {self._per_minute} tokens in one minute"
        self.has_closed_now = True
        audit.record(self._session, "brake_closed", {"per_minute": self._per_minute})


def notify_closed(session: Session, incident_ids: Sequence[uuid.UUID], policy: Policy) -> None:
    """Queue a mail to the operator: too many tokens were reported, so further reports wait for approval."""
    outbox.notify_operator(
        session,
        list(incident_ids)[:1],
        Occasion.BRAKE_CLOSED,
        policy.operator_email,
        window=policy.mail_window,
        domain=policy.mail_domain,
    )


def status(session: Session) -> BrakeStatus:
    """Return the state of the limit on how many tokens are disabled because of reports and usage rules."""
    row = session.get(Brake, _ROW)
    held = session.execute(
        select(func.count()).select_from(Report).where(Report.state == ReportState.HELD)
    ).scalar_one()
    used = _disabled_last_minute(session)
    return BrakeStatus(row.closed_at if row else None, row.reason if row else "", held, used)


@dataclass(frozen=True, slots=True)
class HeldReports:
    """A group of waiting reports with the same reporter, kind of evidence and note."""

    reporter: str
    sign: str
    note: str
    number: int
    oldest_at: datetime

    def __str__(self) -> str:
        note = f": {self.note}" if self.note else ""
        return f"{self.number:,} by {self.reporter} ({self.sign.replace('_', ' ')}){note}"


def held_reports(session: Session) -> list[HeldReports]:
    """Return groups of reports that wait for an operator, the largest first, at most `MAX_HELD_GROUPS`."""
    group = (Report.reporter, Report.sign, Report.note)
    number = func.count()
    statement = (
        select(*group, number, func.min(Report.received_at)).where(Report.state == ReportState.HELD).group_by(*group)
    )
    rows = session.execute(statement.order_by(number.desc(), *group).limit(MAX_HELD_GROUPS))
    return [
        HeldReports(reporter=reporter, sign=sign, note=note, number=count, oldest_at=oldest_at)
        for reporter, sign, note, count, oldest_at in rows
    ]


def release(session: Session, *, who: str, reason: str = "") -> list[int]:
    """Approve the reports that wait for an operator.

    Returns:
        The ids of the released reports, ordered by the digests of their tokens. The caller must pass them to
        `settling.settle`.
    """
    row = _locked(session)
    ids = _held_ids(session)
    for chunk in _chunks(ids):
        session.execute(
            update(Report)
            .where(Report.id.in_(chunk))
            .values(state=ReportState.RECEIVED, is_braked=False, next_check_at=db_now())
        )
    _open(session, row, "brake_released", len(ids), who, reason)
    return ids


def reject(session: Session, *, who: str, reason: str = "") -> int:
    """Reject the reports that wait for an operator, and close their incidents.

    Returns:
        The number of rejected reports.
    """
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
    _open(session, row, "brake_rejected", len(ids), who, reason)
    return len(ids)


def _open(session: Session, row: Brake, what: str, reports: int, who: str, reason: str) -> None:
    was_closed_at = row.closed_at
    row.closed_at, row.reason = None, ""
    evidence = {"reports": reports, "closed_at": was_closed_at.isoformat() if was_closed_at else None}
    audit.record(session, what, {**evidence, **({"reason": reason} if reason else {})}, who=who)


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
    return [ids[start : start + ROWS_PER_STATEMENT] for start in range(0, len(ids), ROWS_PER_STATEMENT)]

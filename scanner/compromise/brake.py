"""Limits how many tokens per minute are disabled because of reports and usage rules.

When the limit is exceeded, further reports wait for an operator's approval.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from scanner.compromise import brake_status
from scanner.records import audit, outbox
from scanner.records.columns import insert_or_nothing
from scanner.records.compromise_models import Brake, Report
from scanner.records.models import Incident, db_now
from scanner.records.states import Decision, IncidentState, Occasion, ReportState
from scanner.response.policy import Policy

ROWS_PER_STATEMENT = 500


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
            self._room = self._per_minute - brake_status.disabled_last_minute(self._session)
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
    session.execute(insert_or_nothing(session, Brake).values(id=brake_status.ROW, reason=""))
    statement = (
        select(Brake).where(Brake.id == brake_status.ROW).with_for_update().execution_options(populate_existing=True)
    )
    return session.execute(statement).scalar_one()


def _held_ids(session: Session) -> list[int]:
    statement = select(Report.id).where(Report.state == ReportState.HELD).order_by(Report.digest, Report.id)
    return list(session.execute(statement).scalars())


def _chunks(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + ROWS_PER_STATEMENT] for start in range(0, len(ids), ROWS_PER_STATEMENT)]

"""Reads the state of the brake: how many tokens were disabled because of reports and rules, and which reports wait."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records.compromise_models import Brake, Report
from scanner.records.models import db_now, table_of
from scanner.records.states import Decision, ReportState

ROW = 1
"""The id of the only row of the table."""
WINDOW_SECONDS = 60
MAX_HELD_GROUPS = 20
"""The operator sees at most this many groups of waiting reports."""

_brake, _reports = table_of(Brake), table_of(Report)


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


def read(session: Session) -> BrakeStatus:
    """Return the state of the limit on how many tokens are disabled because of reports and usage rules."""
    row = session.execute(select(_brake).where(_brake.c.id == ROW)).one_or_none()
    held = session.execute(
        select(func.count()).select_from(_reports).where(_reports.c.state == ReportState.HELD)
    ).scalar_one()
    used = disabled_last_minute(session)
    return BrakeStatus(row.closed_at if row else None, row.reason if row else "", held, used)


def held_reports(session: Session) -> list[HeldReports]:
    """Return groups of reports that wait for an operator, the largest first, at most `MAX_HELD_GROUPS`."""
    group = (_reports.c.reporter, _reports.c.sign, _reports.c.note)
    number = func.count()
    statement = (
        select(*group, number, func.min(_reports.c.received_at))
        .where(_reports.c.state == ReportState.HELD)
        .group_by(*group)
    )
    rows = session.execute(statement.order_by(number.desc(), *group).limit(MAX_HELD_GROUPS))
    return [
        HeldReports(reporter=reporter, sign=sign, note=note, number=count, oldest_at=oldest_at)
        for reporter, sign, note, count, oldest_at in rows
    ]


def disabled_last_minute(session: Session) -> int:
    """Return the number of tokens disabled in the last minute that count towards the limit."""
    counted = (
        _reports.c.decision.in_((Decision.DISABLED, Decision.DISABLING)),
        _reports.c.is_braked,
        _reports.c.decided_at > db_now(-WINDOW_SECONDS),
    )
    return session.execute(select(func.count()).select_from(_reports).where(*counted)).scalar_one()

"""Decides in batches what to do about recorded reports of compromised tokens."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from sqlalchemy import ColumnElement, String, func, select, type_coerce, update
from sqlalchemy.orm import Session

from scanner.compromise import brake
from scanner.detection import Place
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import Incident, db_now
from scanner.records.states import Decision, EnforceMode, IncidentState, ReportState, RequestedAction
from scanner.response.paths import path_of
from scanner.response.policy import Policy
from scanner.response.reported import Reported, ReportOutcome, respond_to_reports
from scanner.response.store_access import LiveToken
from scanner.tokens.protocol import LookUp

REPORTS_PER_TRANSACTION = 200
RECHECK_SECONDS = 6 * 3600
"""An unknown token is looked up again after this time."""
ASK_AGAIN_SECONDS = 15
"""If the token store is unavailable, a report is decided again after this time."""
UNDECIDED_STATES = (ReportState.RECEIVED, ReportState.UNKNOWN)
UNSETTLED = {Decision.UNKNOWN: ReportState.UNKNOWN, Decision.HELD: ReportState.HELD}
"""Decisions that are not final, each with the state that the report then has."""
NOTIFIED_DECISIONS = (Decision.DISABLED, Decision.PROTECTED, Decision.OBSERVED, Decision.HELD, Decision.FLAGGED)
"""These decisions queue a notification."""
LIVE_DECISIONS = (Decision.OBSERVED, Decision.PROTECTED)
"""After these decisions the token still works."""
REPORTS_PER_PAGE = 1000
MAX_PAGES = 50


@dataclass(slots=True)
class Settled:
    """The number of reports for each decision, including the decisions `held` and `unknown`, which are not final."""

    counts: Counter[str] = field(default_factory=Counter)
    disabling: list[uuid.UUID] = field(default_factory=list)
    """Incidents for which the remote token store must still be called."""

    @property
    def has_notifications(self) -> bool:
        """Return whether a decision queued mails or other notifications."""
        return any(self.counts[decision] for decision in NOTIFIED_DECISIONS)


@dataclass(frozen=True, slots=True)
class SettledDue:
    """How many undecided reports were due, and how many reports got each decision."""

    due: int
    settled: Settled


def settle(database: Database, ids: Sequence[int], *, policy: Policy, per_minute: int) -> Settled:
    """Decide on the given reports, except those that are already decided. Return the number of reports for each
    decision.

    Args:
        per_minute: How many tokens reports and usage rules may disable in one minute.
    """
    total = Settled()
    for start in range(0, len(ids), REPORTS_PER_TRANSACTION):
        chunk = ids[start : start + REPORTS_PER_TRANSACTION]
        asked = policy.access.ask(partial(_undecided_digests, database, chunk))
        with database.write() as session:
            settled = _settle_within(session, chunk, policy, per_minute, asked)
        total.counts += settled.counts
        finished = path_of(policy).finish(database, settled.disabling, policy=policy)
        total.counts += Counter(disabled=len(finished.disabled))
    return total


def _undecided_digests(database: Database, ids: Sequence[int]) -> set[str]:
    statement = select(Report.digest).where(Report.id.in_(ids), Report.state.in_(UNDECIDED_STATES))
    with database.read() as session:
        return set(session.execute(statement).scalars())


def settle_due(
    database: Database, *, policy: Policy, per_minute: int, limit: int = REPORTS_PER_TRANSACTION
) -> SettledDue:
    """Decide on at most `limit` reports that are due, for example after a crash."""
    with database.read() as session:
        statement = (
            select(Report.id)
            .where(Report.state.in_(UNDECIDED_STATES), Report.next_check_at <= db_now())
            .order_by(Report.next_check_at)
            .limit(limit)
        )
        ids = list(session.execute(statement).scalars())
    return SettledDue(len(ids), settle(database, ids, policy=policy, per_minute=per_minute))


def decide_again(database: Database, *, policy: Policy, per_minute: int) -> Settled:
    """Decide again on reports whose token was left enabled because of the mode `observe` or its protection."""
    total, last = Settled(), 0
    for _ in range(0 if policy.enforce == EnforceMode.OBSERVE else MAX_PAGES):
        rows = _live_reports(database, policy, last)
        live = policy.access.confirm_live({row.token for row in rows})
        ids = [row.report_id for row in rows if row.token in live]
        for start in range(0, len(ids), REPORTS_PER_TRANSACTION):
            reset = _reset_to_undecided(database, ids[start : start + REPORTS_PER_TRANSACTION])
            total.counts += settle(database, reset, policy=policy, per_minute=per_minute).counts
        if len(rows) < REPORTS_PER_PAGE:
            break
        last = rows[-1].report_id
    return total


@dataclass(frozen=True, slots=True)
class _LiveReport:
    """A decided report whose token was not disabled."""

    report_id: int
    token: LiveToken


def _live_reports(database: Database, policy: Policy, after: int) -> list[_LiveReport]:
    """Return the next decided reports whose token was not disabled, ordered by id."""
    changed = policy.access.live_only(Report.digest, even_protected=Report.decision != Decision.PROTECTED)
    statement = (
        select(func.min(Report.id), Report.digest, Report.decision)
        .join(Incident, Incident.id == Report.incident_id)
        .where(*_stayed_live(), *changed)
        .group_by(Report.digest, Report.decision)
        .having(func.min(Report.id) > after)
        .order_by(func.min(Report.id))
        .limit(REPORTS_PER_PAGE)
    )
    with database.read() as session:
        rows = session.execute(statement)
        return [
            _LiveReport(report_id, LiveToken(digest, decision != Decision.PROTECTED))
            for report_id, digest, decision in rows
        ]


def _reset_to_undecided(database: Database, ids: Sequence[int]) -> list[int]:
    """Make reports undecided again, unless their incident has changed after the decision. Return the ids of these
    reports.
    """
    still = select(Incident.id).where(Incident.id == Report.incident_id, *_stayed_live()).exists()
    with database.write() as session:
        undecided = session.execute(
            update(Report)
            .where(Report.id.in_(ids), still)
            .values(state=ReportState.RECEIVED, decision=Decision.UNDECIDED, next_check_at=db_now())
            .returning(Report.id)
            .execution_options(synchronize_session=False)
        )
        return sorted(undecided.scalars())


def _stayed_live() -> tuple[ColumnElement[bool], ...]:
    """Return the SQL conditions for reports whose token should have been disabled, but was not."""
    return (
        Report.state == ReportState.SETTLED,
        Report.wanted == RequestedAction.DISABLE,
        Report.decision.in_(LIVE_DECISIONS),
        Incident.state == IncidentState.OPEN,
        Incident.action == Report.decision,
    )


def decisions(database: Database, ids: Sequence[int]) -> Counter[str]:
    """Return how many of the given reports have each decision. An undecided report is counted under its state."""
    counts: Counter[str] = Counter()
    with database.read() as session:
        for start in range(0, len(ids), REPORTS_PER_TRANSACTION):
            chunk = ids[start : start + REPORTS_PER_TRANSACTION]
            word = func.coalesce(
                func.nullif(type_coerce(Report.decision, String), Decision.UNDECIDED), type_coerce(Report.state, String)
            )
            rows = session.execute(select(word, func.count()).where(Report.id.in_(chunk)).group_by(word))
            counts.update({str(name): int(number) for name, number in rows})
    return counts


def _settle_within(
    session: Session, ids: Sequence[int], policy: Policy, per_minute: int, asked: LookUp | None
) -> Settled:
    statement = (
        select(Report)
        .where(Report.id.in_(ids), Report.state.in_(UNDECIDED_STATES))
        .order_by(Report.digest, Report.id)
        .with_for_update()
    )
    rows = {row.id: row for row in session.execute(statement).scalars()}
    if not rows:
        return Settled()
    quota = brake.DisableQuota(session, per_minute)
    outcomes = respond_to_reports(
        session,
        [_reported(row) for row in rows.values()],
        policy=policy,
        may_disable=lambda report: not rows[report.id].is_braked or quota.try_take(),
        asked=asked,
    )
    for undecided in rows.keys() - {outcome.report_id for outcome in outcomes}:
        rows[undecided].next_check_at = db_now(ASK_AGAIN_SECONDS)
    # Get the times first: with SQL expressions, SQLAlchemy would send one statement for each row.
    now, recheck_at = session.execute(select(db_now(), db_now(RECHECK_SECONDS))).one()
    for outcome in outcomes:
        _write(rows[outcome.report_id], outcome, now, recheck_at)
    if quota.has_closed_now:
        held = [one.incident_id for one in outcomes if one.decision == Decision.HELD and one.incident_id]
        brake.notify_closed(session, held, policy)
    disabling = [one.incident_id for one in outcomes if one.decision == Decision.DISABLING and one.incident_id]
    return Settled(Counter(outcome.decision for outcome in outcomes), disabling)


def _write(row: Report, outcome: ReportOutcome, now: datetime, recheck_at: datetime) -> None:
    row.decision = outcome.decision
    row.incident_id = outcome.incident_id
    row.state = UNSETTLED.get(outcome.decision, ReportState.SETTLED)
    row.decided_at = now
    if row.state == ReportState.UNKNOWN:
        row.next_check_at = recheck_at


def _reported(row: Report) -> Reported:
    return Reported(
        id=row.id,
        digest=row.digest,
        hint=row.hint,
        sign=row.sign,
        note=row.note,
        reporter=row.reporter,
        wanted=row.wanted,
        place=Place("other", row.url) if row.url else None,
    )

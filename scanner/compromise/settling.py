"""From recorded reports to decisions: a bounded number a transaction, under the brake, and again after a crash."""

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
from scanner.records.states import Decision, IncidentState, ReportState, Wanted
from scanner.response.paths import path_of
from scanner.response.policy import Policy
from scanner.response.reported import Outcome, Reported, respond_to_reports
from scanner.response.store_access import LetLive
from scanner.tokens.protocol import LookUp

REPORTS_A_TRANSACTION = 200
RECHECK_SECONDS = 6 * 3600
ASK_AGAIN_SECONDS = 15
OPEN = (ReportState.RECEIVED, ReportState.UNKNOWN)
UNSETTLED = {Decision.UNKNOWN: ReportState.UNKNOWN, Decision.HELD: ReportState.HELD}
"""Decisions after which a report is not settled, and the state that it has then."""
TOLD = (Decision.DISABLED, Decision.PROTECTED, Decision.OBSERVED, Decision.HELD, Decision.FLAGGED)
"""Decisions of which somebody is told."""
LET_LIVE = (Decision.OBSERVED, Decision.PROTECTED)
MAX_DECIDED_AGAIN = 1000
"""Of a page."""
PAGES_DECIDED_AGAIN = 50


@dataclass(slots=True)
class Settled:
    """What was decided on a number of reports, by decision; `held` and `unknown` among them."""

    counts: Counter[str] = field(default_factory=Counter)

    @property
    def has_news(self) -> bool:
        """Whether somebody has to be told."""
        return any(self.counts[decision] for decision in TOLD)


def settle(database: Database, ids: Sequence[int], *, policy: Policy, per_minute: int) -> Settled:
    """Decide on those of the reports that are still undecided; doing it twice does nothing.

    `per_minute` is the brake's. Raises what the database raises when it is away: the sweeper comes again then.
    """
    total = Settled()
    for start in range(0, len(ids), REPORTS_A_TRANSACTION):
        chunk = ids[start : start + REPORTS_A_TRANSACTION]
        asked = policy.access.ask(partial(_undecided_digests, database, chunk))
        with database.write() as session:
            counts, disabling = _settle_within(session, chunk, policy, per_minute, asked)
        total.counts += counts
        done = path_of(policy).finish(database, disabling, policy=policy)
        total.counts += Counter(disabled=len(done.disabled))
    return total


def _undecided_digests(database: Database, ids: Sequence[int]) -> set[str]:
    statement = select(Report.digest).where(Report.id.in_(ids), Report.state.in_(OPEN))
    with database.read() as session:
        return set(session.execute(statement).scalars())


def settle_due(
    database: Database, *, policy: Policy, per_minute: int, limit: int = REPORTS_A_TRANSACTION
) -> tuple[int, Settled]:
    """Decide on what a crash left behind and what the store may know by now; how many were due, and the decisions."""
    with database.read() as session:
        statement = (
            select(Report.id)
            .where(Report.state.in_(OPEN), Report.next_check_at <= db_now())
            .order_by(Report.next_check_at)
            .limit(limit)
        )
        ids = list(session.execute(statement).scalars())
    return len(ids), settle(database, ids, policy=policy, per_minute=per_minute)


def decide_again(database: Database, *, policy: Policy, per_minute: int) -> Settled:
    """Decide once more on reports whose token was let live: by `observe`, by its protection, and would not be now.

    What was decided since, enforcing or taking a protection away, thus reaches what nobody may ever report again.
    """
    total, last = Settled(), 0
    for _ in range(0 if policy.enforce == "observe" else PAGES_DECIDED_AGAIN):
        rows = _let_live(database, policy, last)
        live = policy.access.confirm_live({token for _, token in rows})
        ids = [report_id for report_id, token in rows if token in live]
        for start in range(0, len(ids), REPORTS_A_TRANSACTION):
            taken = _taken_again(database, ids[start : start + REPORTS_A_TRANSACTION])
            total.counts += settle(database, taken, policy=policy, per_minute=per_minute).counts
        if len(rows) < MAX_DECIDED_AGAIN:
            break
        last = rows[-1][0]
    return total


def _let_live(database: Database, policy: Policy, after: int) -> list[tuple[int, LetLive]]:
    """Return the first reports after an id that let their token live, one a token: the report's id, the token.

    Return only tokens for which something has changed, if the database can tell.
    """
    changed = policy.access.live_only(Report.digest, even_protected=Report.decision != Decision.PROTECTED)
    statement = (
        select(func.min(Report.id), Report.digest, Report.decision)
        .join(Incident, Incident.id == Report.incident_id)
        .where(*_was_let_live(), *changed)
        .group_by(Report.digest, Report.decision)
        .having(func.min(Report.id) > after)
        .order_by(func.min(Report.id))
        .limit(MAX_DECIDED_AGAIN)
    )
    with database.read() as session:
        rows = session.execute(statement)
        return [(report_id, LetLive(digest, decision != Decision.PROTECTED)) for report_id, digest, decision in rows]


def _taken_again(database: Database, ids: Sequence[int]) -> list[int]:
    """Those of the reports that are undecided now, since nobody has decided otherwise meanwhile."""
    still = select(Incident.id).where(Incident.id == Report.incident_id, *_was_let_live()).exists()
    with database.write() as session:
        undecided = session.execute(
            update(Report)
            .where(Report.id.in_(ids), still)
            .values(state=ReportState.RECEIVED, decision=Decision.UNDECIDED, next_check_at=db_now())
            .returning(Report.id)
            .execution_options(synchronize_session=False)
        )
        return sorted(undecided.scalars())


def _was_let_live() -> tuple[ColumnElement[bool], ...]:
    """Of a report and its incident, together: it asked for a disable, and nobody has decided otherwise since."""
    return (
        *(Report.state == ReportState.SETTLED, Report.wanted == Wanted.DISABLE, Report.decision.in_(LET_LIVE)),
        *(Incident.state == IncidentState.OPEN, Incident.action == Report.decision),
    )


def decisions(database: Database, ids: Sequence[int]) -> Counter[str]:
    """How those reports stand, by decision, whoever decided; `received` for what nobody has decided yet."""
    counts: Counter[str] = Counter()
    with database.read() as session:
        for start in range(0, len(ids), REPORTS_A_TRANSACTION):
            chunk = ids[start : start + REPORTS_A_TRANSACTION]
            word = func.coalesce(
                func.nullif(type_coerce(Report.decision, String), Decision.UNDECIDED), type_coerce(Report.state, String)
            )
            rows = session.execute(select(word, func.count()).where(Report.id.in_(chunk)).group_by(word))
            counts.update({str(name): int(number) for name, number in rows})
    return counts


def _settle_within(
    session: Session, ids: Sequence[int], policy: Policy, per_minute: int, asked: LookUp | None
) -> tuple[Counter[str], list[uuid.UUID]]:
    """Decisions, and incidents whose token has still to be disabled by a call."""
    statement = (
        select(Report)
        .where(Report.id.in_(ids), Report.state.in_(OPEN))
        .order_by(Report.digest, Report.id)
        .with_for_update()
    )
    rows = {row.id: row for row in session.execute(statement).scalars()}
    if not rows:
        return Counter(), []
    gate = brake.Gate(session, per_minute)
    outcomes = respond_to_reports(
        session,
        [_reported(row) for row in rows.values()],
        policy=policy,
        may_disable=lambda report: not rows[report.id].is_braked or gate.lets_through(),
        asked=asked,
    )
    for undecided in rows.keys() - {outcome.report_id for outcome in outcomes}:
        rows[undecided].next_check_at = db_now(ASK_AGAIN_SECONDS)
    # Values, not expressions: rows with expressions are written by a statement each.
    now, recheck_at = session.execute(select(db_now(), db_now(RECHECK_SECONDS))).one()
    for outcome in outcomes:
        _write(rows[outcome.report_id], outcome, now, recheck_at)
    if gate.has_closed_now:
        brake.tell(
            session, [one.incident_id for one in outcomes if one.decision == Decision.HELD and one.incident_id], policy
        )
    disabling = [one.incident_id for one in outcomes if one.decision == Decision.DISABLING and one.incident_id]
    return Counter(outcome.decision for outcome in outcomes), disabling


def _write(row: Report, outcome: Outcome, now: datetime, recheck_at: datetime) -> None:
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

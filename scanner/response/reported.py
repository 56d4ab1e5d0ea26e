"""The heart's other half: from reports of compromise, which need no public place, to disabled tokens and incidents."""

from __future__ import annotations

import dataclasses
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.detection import Candidate, Place
from scanner.records import audit, outbox
from scanner.records.audit import Entry
from scanner.records.models import Incident, db_now
from scanner.records.states import Cause, Decision, Wanted
from scanner.response import incidents
from scanner.response.enforcement import enforce
from scanner.response.notification_queue import queue_notifications
from scanner.response.policy import Policy
from scanner.tokens.protocol import LookUp, TokenRecord

SIGNS_AN_INCIDENT = 20
"""Reports whose words an incident keeps; every report has its own row anyway."""
FLAGS_WINDOW_SECONDS = 600
"""For which the operator's mail about a flag waits for more of them."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A report that is recorded and not decided. `place` only where the token stands in public; no raw token anywhere.

    `wanted`: disable the token, or only `flag` it for the operator.
    """

    id: int
    digest: str
    hint: str
    sign: str
    note: str
    reporter: str
    wanted: Wanted
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a report."""

    report_id: int
    decision: Decision
    incident_id: uuid.UUID | None = None


@dataclass(slots=True)
class _Batch:
    """What the reports of one call share: the time, open incidents by digest (locked), and entries for the audit."""

    session: Session
    now: datetime
    opened: dict[str, Incident]
    entries: list[Entry] = field(default_factory=list)


def respond_to_reports(
    session: Session,
    reports: Sequence[Reported],
    *,
    policy: Policy,
    may_disable: Callable[[Reported], bool],
    asked: LookUp | None = None,
) -> list[Outcome]:
    """Decide on the reports in the caller's writing transaction, in the order of digests.

    Each report is a new sign: a token that was brought back is disabled again. So hand each over once.

    Args:
        may_disable: asked for each token that would be disabled now; False leaves it live, with a `held` incident.
        asked: what `policy.access.ask` returned before the transaction began.

    Returns:
        One outcome for each report, except reports on tokens that the store could not look up.
    """
    by_digest: dict[str, list[Reported]] = defaultdict(list)
    for report in reports:
        by_digest[report.digest].append(report)
    found = policy.access.look_up(session, by_digest, asked)
    outcomes: list[Outcome] = []
    news: list[tuple[Incident, TokenRecord]] = []
    flagged: list[uuid.UUID] = []
    batch = _Batch(
        session,
        session.execute(select(db_now())).scalar_one(),
        incidents.opened(session, by_digest.keys() & found.records.keys()),
    )
    with session.no_autoflush:  # hundreds of reports are written by a few statements at the end
        for digest in sorted(by_digest.keys() - found.not_checked):
            token = found.records.get(digest)
            for report in by_digest[digest]:
                if token is None:
                    outcomes.append(Outcome(report.id, Decision.UNKNOWN))
                    continue
                decision, incident, is_news = _one_report(batch, token, report, policy, may_disable)
                outcomes.append(Outcome(report.id, decision, incident.id if incident else None))
                if incident is not None and is_news:
                    news.append((incident, token))
                if incident is not None and decision == Decision.FLAGGED:
                    flagged.append(incident.id)
                if incident is not None and decision == Decision.DISABLED:
                    token = dataclasses.replace(token, disabled_at=incident.disabled_at)
    audit.record_all(session, batch.entries)
    session.flush()
    queue_notifications(session, news, policy)
    if flagged:
        outbox.tell_operator(
            session,
            sorted(set(flagged)),
            "flagged",
            policy.operator_email,
            window=FLAGS_WINDOW_SECONDS,
            domain=policy.mail_domain,
        )
    return outcomes


def _one_report(
    batch: _Batch, token: TokenRecord, report: Reported, policy: Policy, may_disable: Callable[[Reported], bool]
) -> tuple[Decision, Incident | None, bool]:
    """The decision, its incident if there is one, and whether the owner or the operator has to be told of it."""
    if report.wanted == Wanted.FLAG and token.disabled_at is not None:
        return Decision.ALREADY_DISABLED, None, False
    incident, is_new = _incident(batch, token, report)
    is_live = token.disabled_at is None and not token.is_protected and policy.enforce == "disable"
    _keep_sign(incident, report)
    _keep_place(batch, incident, report)
    if incident.action == Decision.DISABLING:
        # For a public find, perhaps: it is neither counted nor held by the brake, and comes to its end.
        _audit(batch, Decision.DISABLING, report, incident)
        return Decision.DISABLING, incident, False
    is_held = report.wanted == Wanted.DISABLE and is_live and not may_disable(report)
    if report.wanted == Wanted.FLAG or is_held:
        decision = Decision.HELD if is_held else Decision.FLAGGED
        if is_new or (is_held and incident.action != Decision.HELD):
            incident.action = decision
        _audit(batch, decision, report, incident)
        return decision, incident, False
    done = enforce(batch.session, [(token, incident)], policy)[0]
    decision = done.action
    _audit(batch, decision, report, incident)
    if decision == Decision.ALREADY_DISABLED:
        if is_new or incident.action in (Decision.HELD, Decision.FLAGGED):
            incident.action, incident.disabled_at = decision, token.disabled_at
        return decision, incident, False
    if decision == Decision.DISABLING:
        incident.action, incident.next_attempt_at = decision, batch.now
        return decision, incident, False
    is_news = is_new or decision != incident.action
    incident.action = decision
    if decision == Decision.DISABLED:
        incident.disabled_at = done.at
    return decision, incident, is_news


def _incident(batch: _Batch, token: TokenRecord, report: Reported) -> tuple[Incident, bool]:
    """The token's open incident, or a new one; one that ended with a disable is over when the token is live again."""
    incident = batch.opened.get(token.digest)
    was_brought_back = token.disabled_at is None and incident is not None and incident.disabled_at is not None
    if incident is not None and was_brought_back and report.wanted == Wanted.DISABLE:
        incidents.close_over(batch.session, [incident])
        incident = None
    if incident is not None:
        return incident, False
    cause = Cause.PUBLIC_REPOSITORY if report.place else Cause.COMPROMISE_SIGNS
    incident = incidents.begun(token, report.hint, cause, batch.now)
    batch.session.add(incident)
    batch.opened[token.digest] = incident
    return incident, True


def _keep_sign(incident: Incident, report: Reported) -> None:
    evidence: dict[str, Any] = dict(incident.evidence or {})
    signs = list(evidence.get("signs", ()))
    if any(sign.get("report") == report.id for sign in signs):  # it is decided on once more
        return
    if len(signs) < SIGNS_AN_INCIDENT:
        signs.append({"sign": report.sign, "note": report.note, "reporter": report.reporter, "report": report.id})
    else:
        evidence["signs_not_kept"] = int(evidence.get("signs_not_kept", 0)) + 1
    incident.evidence = {**evidence, "signs": signs}


def _keep_place(batch: _Batch, incident: Incident, report: Reported) -> None:
    if report.place is None:
        return
    candidate = Candidate(report.digest, report.hint, report.place, 0, 0)
    batch.session.flush()  # the rows of places refer to the incident
    places = incidents.new_places(batch.session, {report.digest: [candidate]}, report.reporter)[report.digest]
    incidents.add_places(batch.session, [(incident, places)], batch.now)
    incident.cause = Cause.PUBLIC_REPOSITORY


def _audit(batch: _Batch, decision: Decision, report: Reported, incident: Incident) -> None:
    evidence = {
        "digest": report.digest,
        "report": report.id,
        "sign": report.sign,
        "note": report.note,
        "reporter": report.reporter,
    }
    batch.entries.append(Entry(f"token_{decision}", evidence, incident.id))

"""The response to reports of compromised tokens: disables the tokens and records incidents."""

from __future__ import annotations

import dataclasses
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.detection import Candidate, Place
from scanner.records import audit, canaries, outbox
from scanner.records.audit import Entry
from scanner.records.models import Incident, db_now
from scanner.records.states import Cause, Decision, EnforceMode, Occasion, RequestedAction
from scanner.response import incidents
from scanner.response.enforcement import enforce
from scanner.response.incidents import IncidentPlaces, TokenIncident
from scanner.response.notification_queue import queue_notifications
from scanner.response.policy import Policy
from scanner.tokens.protocol import LookUp, TokenRecord

MAX_SIGNS_PER_INCIDENT = 20
"""An incident lists at most this many reports in its evidence."""
FLAGS_WINDOW_SECONDS = 600
"""The operator's mail about a suspicious token waits this long for further such tokens."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A recorded report that is not decided yet.

    `wanted` says whether to disable the token or only to notify the operator. `place` is where the token was found in
    public, or None.
    """

    id: int
    digest: str
    hint: str
    sign: str
    note: str
    reporter: str
    wanted: RequestedAction
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class ReportOutcome:
    """The decision on a report."""

    report_id: int
    decision: Decision
    incident_id: uuid.UUID | None = None


@dataclass(slots=True)
class _Batch:
    """The data that all decisions of one call of `respond_to_reports` share.

    Attributes:
        open_incidents: the locked open incidents, by digest.
        canaries: the digests of r8scan's own test tokens.
        flagged: the ids of incidents that are only reported to the operator.
    """

    session: Session
    now: datetime
    open_incidents: dict[str, Incident]
    canaries: Collection[str]
    entries: list[Entry] = field(default_factory=list)
    to_notify: list[TokenIncident] = field(default_factory=list)
    flagged: list[uuid.UUID] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Decided:
    """The decision on one report, its incident (or None), and whether to queue notifications."""

    decision: Decision
    incident: Incident | None
    must_notify: bool = False


def respond_to_reports(
    session: Session,
    reports: Sequence[Reported],
    *,
    policy: Policy,
    may_disable: Callable[[Reported], bool],
    asked: LookUp | None = None,
) -> list[ReportOutcome]:
    """Decide on the reports in the caller's writing transaction, in the order of digests.

    Pass each report only once: a second decision could disable a token that an operator has since enabled.

    Args:
        may_disable: Called before a token is disabled. If it returns False, the token stays enabled and its incident is
            `held`.
        asked: The token store's answer from before the transaction (`policy.access.ask`).

    Returns:
        One outcome for each report, except reports of tokens that could not be looked up.
    """
    by_digest: dict[str, list[Reported]] = defaultdict(list)
    for report in reports:
        by_digest[report.digest].append(report)
    found = policy.access.look_up(session, by_digest, asked)
    outcomes: list[ReportOutcome] = []
    batch = _Batch(
        session,
        session.execute(select(db_now())).scalar_one(),
        incidents.open_incidents(session, by_digest.keys() & found.records.keys()),
        canaries.digests_among(session, by_digest),
    )
    ended = canaries.ended_among(session, by_digest.keys() - found.records.keys() - found.not_checked)
    with session.no_autoflush:  # write hundreds of reports by a few statements at the end
        for digest in sorted(by_digest.keys() - found.not_checked):
            token = found.records.get(digest)
            if token is None:
                # The store no longer knows the token of an ended canary (r8scan's own test token).
                decision = Decision.ALREADY_DISABLED if digest in ended else Decision.UNKNOWN
                outcomes += [ReportOutcome(report.id, decision) for report in by_digest[digest]]
            else:
                outcomes += _decide_all(batch, token, by_digest[digest], policy, may_disable)
    audit.record_all(session, batch.entries)
    session.flush()
    queue_notifications(session, batch.to_notify, policy)
    if batch.flagged:
        _notify_of_flags(session, batch.flagged, policy)
    return outcomes


def _notify_of_flags(session: Session, incident_ids: Sequence[uuid.UUID], policy: Policy) -> None:
    outbox.notify_operator(
        session,
        sorted(set(incident_ids)),
        Occasion.FLAGGED,
        policy.operator_email,
        window=FLAGS_WINDOW_SECONDS,
        domain=policy.mail_domain,
    )


def _decide_all(
    batch: _Batch,
    token: TokenRecord,
    reports: Sequence[Reported],
    policy: Policy,
    may_disable: Callable[[Reported], bool],
) -> list[ReportOutcome]:
    """Decide on all reports about one token."""
    outcomes: list[ReportOutcome] = []
    for report in reports:
        decided = _decide(batch, token, report, policy, may_disable)
        incident = decided.incident
        outcomes.append(ReportOutcome(report.id, decided.decision, incident.id if incident else None))
        if incident is None:
            continue
        if decided.must_notify:
            batch.to_notify.append(TokenIncident(token, incident))
        if decided.decision == Decision.FLAGGED:
            batch.flagged.append(incident.id)
        if decided.decision == Decision.DISABLED:
            token = dataclasses.replace(token, disabled_at=incident.disabled_at)
    return outcomes


def _decide(
    batch: _Batch, token: TokenRecord, report: Reported, policy: Policy, may_disable: Callable[[Reported], bool]
) -> _Decided:
    """Decide on one report, and update or open the incident of its token."""
    if report.wanted == RequestedAction.FLAG and token.disabled_at is not None:
        return _Decided(Decision.ALREADY_DISABLED, None)
    if token.digest in batch.canaries:
        # Always disable a canary (r8scan's own test token), whatever the report asks and the limits say.
        report = dataclasses.replace(report, wanted=RequestedAction.DISABLE)
        may_disable = _always
    open_incident = _open_incident(batch, token, report)
    incident = open_incident or _new_incident(batch, token, report)
    is_new = open_incident is None
    is_live = token.disabled_at is None and not token.is_protected and policy.enforce == EnforceMode.DISABLE
    _keep_sign(incident, report)
    _keep_place(batch, incident, report)
    if incident.action == Decision.DISABLING:
        # The token is already being disabled, so do not count it towards the limit.
        _audit(batch, Decision.DISABLING, report, incident)
        return _Decided(Decision.DISABLING, incident)
    is_held = report.wanted == RequestedAction.DISABLE and is_live and not may_disable(report)
    if report.wanted == RequestedAction.FLAG or is_held:
        decision = Decision.HELD if is_held else Decision.FLAGGED
        if is_new or (is_held and incident.action != Decision.HELD):
            incident.action = decision
        _audit(batch, decision, report, incident)
        return _Decided(decision, incident)
    taken = enforce(batch.session, [TokenIncident(token, incident)], policy)[0]
    decision = taken.action
    _audit(batch, decision, report, incident)
    if decision == Decision.ALREADY_DISABLED:
        if is_new or incident.action in (Decision.HELD, Decision.FLAGGED):
            incident.action, incident.disabled_at = decision, token.disabled_at
        return _Decided(decision, incident)
    if decision == Decision.DISABLING:
        incident.action, incident.next_attempt_at = decision, batch.now
        return _Decided(decision, incident)
    must_notify = is_new or decision != incident.action
    incident.action = decision
    if decision == Decision.DISABLED:
        incident.disabled_at = taken.disabled_at
    return _Decided(decision, incident, must_notify)


def _open_incident(batch: _Batch, token: TokenRecord, report: Reported) -> Incident | None:
    """Return the token's open incident or None. Close the incident of a re-enabled token that must be disabled."""
    incident = batch.open_incidents.get(token.digest)
    was_reenabled = token.disabled_at is None and incident is not None and incident.disabled_at is not None
    if incident is not None and was_reenabled and report.wanted == RequestedAction.DISABLE:
        incidents.close_reenabled(batch.session, [incident])
        return None
    return incident


def _new_incident(batch: _Batch, token: TokenRecord, report: Reported) -> Incident:
    cause = Cause.PUBLIC_REPOSITORY if report.place else Cause.COMPROMISE_SIGNS
    if token.digest in batch.canaries:
        cause = Cause.CANARY
    incident = incidents.new_incident(token, report.hint, cause, batch.now)
    batch.session.add(incident)
    batch.open_incidents[token.digest] = incident
    return incident


def _keep_sign(incident: Incident, report: Reported) -> None:
    evidence: dict[str, Any] = dict(incident.evidence or {})
    signs = list(evidence.get("signs", ()))
    if any(
        sign.get("report") == report.id for sign in signs
    ):  # the report is decided again, and is already in the list
        return
    if len(signs) < MAX_SIGNS_PER_INCIDENT:
        signs.append({"sign": report.sign, "note": report.note, "reporter": report.reporter, "report": report.id})
    else:
        evidence["signs_not_kept"] = int(evidence.get("signs_not_kept", 0)) + 1
    incident.evidence = {**evidence, "signs": signs}


def _keep_place(batch: _Batch, incident: Incident, report: Reported) -> None:
    if report.place is None:
        return
    candidate = Candidate(report.digest, report.hint, report.place, 0, 0)
    batch.session.flush()  # exposures have a foreign key to the incident
    places = incidents.new_places(batch.session, {report.digest: [candidate]}, report.reporter)[report.digest]
    incidents.add_places(batch.session, [IncidentPlaces(incident, places)], batch.now)
    if incident.cause != Cause.CANARY:
        incident.cause = Cause.PUBLIC_REPOSITORY


def _always(_: Reported) -> bool:
    return True


def _audit(batch: _Batch, decision: Decision, report: Reported, incident: Incident) -> None:
    evidence = {
        "digest": report.digest,
        "report": report.id,
        "sign": report.sign,
        "note": report.note,
        "reporter": report.reporter,
    }
    batch.entries.append(Entry(incidents.done(incident.cause, decision), evidence, incident.id))

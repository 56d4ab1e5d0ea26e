"""The part of the status about the outbox, waiting reports and decisions of the operator."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import and_, case, exists, func, select, union_all
from sqlalchemy.orm import Session, aliased

from scanner.compromise import brake
from scanner.records.compromise_models import Report
from scanner.records.models import Incident, Notification, NotificationSubject, Sighting, db_now
from scanner.records.outbox import MAIL_SERVER_DOWN
from scanner.records.states import Channel, Decision, IncidentState, NotificationState, ReportState, SightingState
from workers.health.problems import Kind, Problem, counted, span
from workers.health.rows import Decisions, OutboxRow, Overview

SENT_SHOWN_SECONDS = 24 * 3600
FAILED_SHOWN_DAYS = 7
UNSENT_AFTER = timedelta(minutes=10)
"""A message that has been due for longer is a problem. A rate limit or an unavailable mail server makes it wait."""
LATE_SECONDS = 30
"""Reports, candidates and disables that wait longer than this are late. Normally each is decided within seconds."""


def read(session: Session, found: Overview) -> None:
    """Add the counts of the outbox and of waiting decisions, and their problems."""
    _outbox(session, found)
    _mail_server(session, found)
    _undeliverable(session, found)
    _late(session, found)
    _decisions(session, found)


def _outbox(session: Session, found: Overview) -> None:
    # Count from the time when the message was due, not when it was queued: a digest waits for a day by design.
    due_since = case((Notification.attempts > 0, Notification.created_at), else_=Notification.next_attempt_at)
    waiting = Notification.state.in_((NotificationState.PENDING, NotificationState.FROZEN))
    kinds = (
        waiting,
        and_(Notification.state == NotificationState.SENT, Notification.created_at > db_now(-SENT_SHOWN_SECONDS)),
        and_(
            Notification.state == NotificationState.FAILED,
            Notification.created_at > db_now(-86400 * FAILED_SHOWN_DAYS),
        ),
    )
    # Use one query for each condition. For an OR of the conditions, PostgreSQL would read the whole table.
    counts = [
        select(
            Notification.channel,
            Notification.state,
            func.count(),
            func.min(due_since),
            func.min(Notification.created_at),
            func.min(Notification.next_attempt_at),
        )
        .where(condition)
        .group_by(Notification.channel, Notification.state)
        for condition in kinds
    ]
    statement = union_all(*counts).order_by("channel", "state")
    for channel, state, number, due, created, following in session.execute(statement):
        age = max((found.at - due).total_seconds(), 0.0) if due else 0.0
        waits = state in (NotificationState.PENDING, NotificationState.FROZEN)
        found.outbox.append(OutboxRow(channel, state, number, round(age, 1), created, following if waits else None))
        if state == NotificationState.FAILED and channel != Channel.EMAIL:  # owners: see `_undeliverable`
            sentence = f"{counted(number, 'message')} ({channel}) failed in {FAILED_SHOWN_DAYS} days"
            found.problems.append(Problem(Kind.MESSAGE_FAILED, sentence, "see r8scan incidents list", subject=channel))
        elif state in (NotificationState.PENDING, NotificationState.FROZEN) and age > UNSENT_AFTER.total_seconds():
            sentence = f"the oldest message ({channel}) has waited for {span(age)}"
            todo = (
                "check the mail server with r8scan email test"
                if channel in (Channel.EMAIL, Channel.OPERATOR)
                else "check the gateway"
            )
            found.problems.append(Problem(Kind.MESSAGE_WAITS, sentence, todo, due, channel))


def _mail_server(session: Session, found: Overview) -> None:
    """Add the problem that the mail server accepts no mail, with the server's own words.

    It is over when the next mail is sent.
    """
    is_down = (
        Notification.channel.in_((Channel.EMAIL, Channel.OPERATOR)),
        Notification.state.in_((NotificationState.PENDING, NotificationState.FROZEN)),
        Notification.error.startswith(MAIL_SERVER_DOWN, autoescape=True),
    )
    number, since, error = session.execute(
        select(func.count(), func.min(Notification.created_at), func.max(Notification.error)).where(*is_down)
    ).one()
    if number and (found.at - since).total_seconds() > LATE_SECONDS:
        sentence = f"{error}; {counted(number, 'mail waits', 'mails wait')}"
        # Remove the problems that only follow from this one.
        found.problems = [one for one in found.problems if one.kind != Kind.MESSAGE_WAITS]
        todo = "the mails are sent when the server accepts mails again; test it with r8scan email test"
        found.problems.append(Problem(Kind.MESSAGE_WAITS, sentence, todo, since, Channel.EMAIL))


def _undeliverable(session: Session, found: Overview) -> None:
    """Add the problem that owners received no mail. It lasts until the mail is sent again or the incident is closed."""
    later, link = aliased(Notification), aliased(NotificationSubject)
    was_told = exists(
        select(link.id)
        .join(later, later.id == link.notification_id)
        .where(
            link.incident_id == NotificationSubject.incident_id,
            link.channel == Channel.EMAIL,
            later.state != NotificationState.FAILED,
            later.created_at > Notification.created_at,
        )
    )
    statement = (
        select(func.count(Notification.id.distinct()), func.min(Notification.created_at))
        .join(NotificationSubject, NotificationSubject.notification_id == Notification.id)
        .join(Incident, Incident.id == NotificationSubject.incident_id)
        .where(
            Notification.channel == Channel.EMAIL,
            Notification.state == NotificationState.FAILED,
            Incident.state == IncidentState.OPEN,
            ~was_told,
        )
    )
    number, oldest = session.execute(statement).one()
    if number:
        sentence = f"{counted(number, 'mail')} to owners could not be delivered"
        todo = (
            "see r8scan incidents list --mail failed; correct or add the address in the token store (r8scan tokens"
            " import), then r8scan incidents resend"
        )
        found.problems.append(Problem(Kind.OWNER_UNDELIVERABLE, sentence, todo, oldest))


def _late(session: Session, found: Overview) -> None:
    waiting, since = _first(
        session, select(func.count(), func.min(Incident.detected_at)).where(Incident.action == Decision.DISABLING)
    )
    if _is_late(found, since):
        sentence = f"{counted(waiting, 'token waits', 'tokens wait')} for the token store to disable them"
        found.problems.append(Problem(Kind.DISABLING_WAITS, sentence, "check the store: r8scan store check", since))
    unchecked, since = _first(
        session,
        select(func.count(), func.min(Sighting.seen_at)).where(
            Sighting.state == SightingState.UNCHECKED, Sighting.seen_at < db_now(-LATE_SECONDS)
        ),
    )
    if unchecked:
        sentence = f"{counted(unchecked, 'found token waits', 'found tokens wait')} for the token store to look it up"
        found.problems.append(Problem(Kind.STORE_AWAY, sentence, "check the store: r8scan store check", since))
    late, since = _first(
        session,
        select(func.count(), func.min(Report.received_at)).where(
            Report.state == ReportState.RECEIVED, Report.next_check_at < db_now(-LATE_SECONDS)
        ),
    )
    if late:
        sentence = f"{counted(late, 'report waits', 'reports wait')} to be decided"
        found.problems.append(Problem(Kind.REPORTS_WAIT, sentence, "restart the responder", since))


def _decisions(session: Session, found: Overview) -> None:
    stood = brake.status(session)
    protected, protected_since = _undecided(session, Decision.PROTECTED)
    flagged, flagged_since = _undecided(session, Decision.FLAGGED)
    found.decisions = Decisions(stood.closed_at, stood.held, protected, protected_since, flagged, flagged_since)
    if stood.closed_at is not None:
        sentence = f"the brake holds {counted(stood.held, 'reported token')}: {stood.reason}"
        todo = "see who reported them with r8scan brake status; then r8scan brake release or r8scan brake reject"
        found.problems.append(Problem(Kind.BRAKE_CLOSED, sentence, todo, stood.closed_at))
    if protected:
        sentence = f"{counted(protected, 'protected token was', 'protected tokens were')} leaked and not disabled"
        todo = "see r8scan incidents list --action protected; disable the token or close the incident"
        found.problems.append(Problem(Kind.PROTECTED_WAITS, sentence, todo, protected_since))
    if flagged:
        sentence = f"{counted(flagged, 'flagged token waits', 'flagged tokens wait')} for your decision"
        todo = "see r8scan incidents list --action flagged; disable the token or close the incident"
        found.problems.append(Problem(Kind.FLAGGED_WAITS, sentence, todo, flagged_since))


def _undecided(session: Session, action: Decision) -> tuple[int, datetime | None]:
    statement = select(func.count(), func.min(Incident.detected_at)).where(
        Incident.action == action, Incident.state == IncidentState.OPEN
    )
    return _first(session, statement)


def _first(session: Session, statement: object) -> tuple[int, datetime | None]:
    number, since = session.execute(statement).one()  # type: ignore[call-overload]  # a SELECT of two columns
    return int(number), since


def _is_late(found: Overview, since: datetime | None) -> bool:
    return since is not None and (found.at - since).total_seconds() > LATE_SECONDS

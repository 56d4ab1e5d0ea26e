"""Counts outgoing messages and the operator's open decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, case, exists, func, select, union_all
from sqlalchemy.orm import Session

from scanner.compromise import brake_status
from scanner.records.compromise_models import Report
from scanner.records.models import Incident, Notification, NotificationSubject, Sighting, db_now, table_of
from scanner.records.outbox import MAIL_SERVER_DOWN
from scanner.records.states import Channel, Decision, IncidentState, NotificationState, ReportState, SightingState
from workers.health import undelivered
from workers.health.problems import Kind, Problem, counted, span
from workers.health.rows import Decisions, OutboxRow

SENT_SHOWN_SECONDS = 24 * 3600
FAILED_SHOWN_DAYS = 7
UNSENT_AFTER = timedelta(minutes=10)
"""A message that has been due for more than this is reported as a problem."""
MAIL_CHANNELS = (Channel.EMAIL, Channel.OPERATOR)
WAITING = (NotificationState.PENDING, NotificationState.FROZEN)
LATE_SECONDS = 30
"""If a report, a found token or a disable waits for more than this, it is late. Normally, it takes seconds."""

_notifications, _subjects = table_of(Notification), table_of(NotificationSubject)
_incidents, _sightings, _reports = table_of(Incident), table_of(Sighting), table_of(Report)


@dataclass(frozen=True, slots=True)
class MessagesState:
    """The numbers of outgoing messages and of the operator's open decisions, and the problems with them."""

    outbox: list[OutboxRow]
    decisions: Decisions
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class _Count:
    """The number of waiting items of one kind, and since when the oldest has waited."""

    number: int
    since: datetime | None


def read(session: Session, now: datetime) -> MessagesState:
    """Return the numbers of outgoing messages and of the operator's open decisions. `now` is the database's time."""
    outbox, stood = _outbox(session, now), brake_status.read(session)
    decisions = _decisions(session, stood)
    # If the mail server is unavailable, do not report the waiting mails as another problem.
    server = list(_mail_server(session, now))
    waiting = [*server, *(one for one in _waiting(outbox, now) if not server or one.subject not in MAIL_CHANNELS)]
    problems = [
        *_failed(outbox),
        *waiting,
        *(one for one in undelivered.problems(session, now) if not server or one.subject != undelivered.MAIL),
        *_undeliverable(session),
        *_late(session, now),
        *_undecided(decisions, stood),
    ]
    return MessagesState(outbox, decisions, problems)


def _outbox(session: Session, now: datetime) -> list[OutboxRow]:
    # A message that was never tried may be planned for the future, so its waiting time begins when it is due.
    due_since = case(
        (_notifications.c.attempts > 0, _notifications.c.created_at), else_=_notifications.c.next_attempt_at
    )
    kinds = (
        _notifications.c.state.in_(WAITING),
        and_(
            _notifications.c.state == NotificationState.SENT, _notifications.c.created_at > db_now(-SENT_SHOWN_SECONDS)
        ),
        and_(
            _notifications.c.state == NotificationState.FAILED,
            _notifications.c.created_at > db_now(-86400 * FAILED_SHOWN_DAYS),
        ),
    )
    # Use one query for each condition. For a single query with OR, PostgreSQL would read the whole table.
    counts = [
        select(
            _notifications.c.channel,
            _notifications.c.state,
            func.count(),
            func.min(due_since),
            func.min(_notifications.c.created_at),
            func.min(_notifications.c.next_attempt_at),
        )
        .where(condition)
        .group_by(_notifications.c.channel, _notifications.c.state)
        for condition in kinds
    ]
    statement = union_all(*counts).order_by("channel", "state")
    return [
        OutboxRow(
            channel=channel,
            state=state,
            rows=number,
            oldest_seconds=round(max((now - due).total_seconds(), 0.0), 1) if due else 0.0,
            created_at=created,
            next_attempt_at=following if state in WAITING else None,
        )
        for channel, state, number, due, created, following in session.execute(statement)
    ]


def _failed(outbox: Sequence[OutboxRow]) -> Iterator[Problem]:
    for row in outbox:
        # Leave out mails to owners, because `_undeliverable` reports them.
        if row.state == NotificationState.FAILED and row.channel != Channel.EMAIL:
            sentence = f"{counted(row.rows, 'message')} ({row.channel}) failed in {FAILED_SHOWN_DAYS} days"
            yield Problem(Kind.MESSAGE_FAILED, sentence, "see r8scan incidents list", subject=row.channel)


def _waiting(outbox: Sequence[OutboxRow], now: datetime) -> Iterator[Problem]:
    for row in outbox:
        age = timedelta(seconds=row.oldest_seconds)
        if row.state in WAITING and age > UNSENT_AFTER:
            sentence = f"the oldest message ({row.channel}) has waited for {span(age)}"
            todo = (
                "check the mail server with r8scan email test" if row.channel in MAIL_CHANNELS else "check the gateway"
            )
            yield Problem(Kind.MESSAGE_WAITS, sentence, todo, now - age, row.channel)


def _mail_server(session: Session, now: datetime) -> Iterator[Problem]:
    """Yield a problem with the server's answer if the mail server accepts no mail."""
    is_down = (
        _notifications.c.channel.in_(MAIL_CHANNELS),
        _notifications.c.state.in_(WAITING),
        _notifications.c.error.startswith(MAIL_SERVER_DOWN, autoescape=True),
    )
    number, since, error = session.execute(
        select(func.count(), func.min(_notifications.c.created_at), func.max(_notifications.c.error)).where(*is_down)
    ).one()
    if number and (now - since).total_seconds() > LATE_SECONDS:
        sentence = f"{error}; {counted(number, 'mail waits', 'mails wait')}"
        todo = "the mails are sent when the server accepts mails again; test it with r8scan email test"
        yield Problem(Kind.MESSAGE_WAITS, sentence, todo, since, Channel.EMAIL)


def _undeliverable(session: Session) -> Iterator[Problem]:
    """Yield a problem if mails to owners could not be delivered."""
    later, link = _notifications.alias(), _subjects.alias()
    was_told = exists(
        select(link.c.id)
        .join(later, later.c.id == link.c.notification_id)
        .where(
            link.c.incident_id == _subjects.c.incident_id,
            link.c.channel == Channel.EMAIL,
            later.c.state != NotificationState.FAILED,
            later.c.created_at > _notifications.c.created_at,
        )
    )
    statement = (
        select(func.count(_notifications.c.id.distinct()), func.min(_notifications.c.created_at))
        .join(_subjects, _subjects.c.notification_id == _notifications.c.id)
        .join(_incidents, _incidents.c.id == _subjects.c.incident_id)
        .where(
            _notifications.c.channel == Channel.EMAIL,
            _notifications.c.state == NotificationState.FAILED,
            _incidents.c.state == IncidentState.OPEN,
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
        yield Problem(Kind.OWNER_UNDELIVERABLE, sentence, todo, oldest)


def _late(session: Session, now: datetime) -> Iterator[Problem]:
    is_disabling = _incidents.c.action == Decision.DISABLING
    disabling = _count(session, select(func.count(), func.min(_incidents.c.detected_at)).where(is_disabling))
    if disabling.since is not None and (now - disabling.since).total_seconds() > LATE_SECONDS:
        sentence = f"{counted(disabling.number, 'token waits', 'tokens wait')} for the token store to disable them"
        yield Problem(Kind.DISABLING_WAITS, sentence, "check the store: r8scan store check", disabling.since)
    unchecked = _count(
        session,
        select(func.count(), func.min(_sightings.c.seen_at)).where(
            _sightings.c.state == SightingState.UNCHECKED, _sightings.c.seen_at < db_now(-LATE_SECONDS)
        ),
    )
    if unchecked.number:
        many = counted(unchecked.number, "found token waits", "found tokens wait")
        sentence = f"{many} for the token store to look it up"
        yield Problem(Kind.STORE_AWAY, sentence, "check the store: r8scan store check", unchecked.since)
    reports = _count(
        session,
        select(func.count(), func.min(_reports.c.received_at)).where(
            _reports.c.state == ReportState.RECEIVED, _reports.c.next_check_at < db_now(-LATE_SECONDS)
        ),
    )
    if reports.number:
        sentence = f"{counted(reports.number, 'report waits', 'reports wait')} to be decided"
        yield Problem(Kind.REPORTS_WAIT, sentence, "restart the responder", reports.since)


def _decisions(session: Session, stood: brake_status.BrakeStatus) -> Decisions:
    protected, flagged = _open_with(session, Decision.PROTECTED), _open_with(session, Decision.FLAGGED)
    return Decisions(
        brake_closed_at=stood.closed_at,
        held=stood.held,
        protected=protected.number,
        protected_since=protected.since,
        flagged=flagged.number,
        flagged_since=flagged.since,
    )


def _undecided(found: Decisions, stood: brake_status.BrakeStatus) -> Iterator[Problem]:
    if found.brake_closed_at is not None:
        sentence = f"the brake holds {counted(found.held, 'reported token')}: {stood.reason}"
        todo = "see who reported them with r8scan brake status; then r8scan brake release or r8scan brake reject"
        yield Problem(Kind.BRAKE_CLOSED, sentence, todo, found.brake_closed_at)
    if found.protected:
        sentence = f"{counted(found.protected, 'protected token was', 'protected tokens were')} leaked and not disabled"
        todo = "see r8scan incidents list --action protected; disable the token or close the incident"
        yield Problem(Kind.PROTECTED_WAITS, sentence, todo, found.protected_since)
    if found.flagged:
        sentence = f"{counted(found.flagged, 'flagged token waits', 'flagged tokens wait')} for your decision"
        todo = "see r8scan incidents list --action flagged; disable the token or close the incident"
        yield Problem(Kind.FLAGGED_WAITS, sentence, todo, found.flagged_since)


def _open_with(session: Session, action: Decision) -> _Count:
    statement = select(func.count(), func.min(_incidents.c.detected_at)).where(
        _incidents.c.action == action, _incidents.c.state == IncidentState.OPEN
    )
    return _count(session, statement)


def _count(session: Session, statement: object) -> _Count:
    number, since = session.execute(statement).one()  # type: ignore[call-overload]  # a SELECT of two columns
    return _Count(int(number), since)

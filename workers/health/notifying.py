"""Notifies the operator when a problem has lasted for some time, and when it has ended.

Several processes run this code, so that one process can report that another has died.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from notifications.operator_channels import News, NewsKind, OperatorChannel
from scanner.records.database import Database, is_unavailable
from scanner.records.health_models import NotifiedProblem
from scanner.records.models import db_now
from scanner.settings import Settings
from workers import outage
from workers.context import Context
from workers.health import incident_summary, operator_messages, summary
from workers.health import problems as known
from workers.health.claims import claim
from workers.health.overview import overview
from workers.health.problems import Kind, Problem
from workers.health.rows import Overview

LOOK_SECONDS = 30.0
STANDBY_SECONDS = 45.0
"""How much longer beat and the web server wait before they look for problems, so that workers do it first."""
LASTING_SECONDS = 120.0
"""A problem is reported only after it has lasted for this long, so a restart of a process is not reported."""
DECISIONS = (*known.DECISIONS, Kind.OWNER_UNDELIVERABLE)
"""Problems that wait for a decision of the operator. They are reported at once."""
SETTINGS = (Kind.MAILS_GO_NOWHERE, Kind.SENDER_NOT_SET, Kind.OPERATOR_NOT_SET)
"""Problems with settings. The operator gets no message about them, because they exist from the start."""
_LOOKOUT = "lookout"
"""The key of the database row whose `last_at` says when a process last looked for problems."""
_NO_PROBLEMS = (_LOOKOUT, summary.ROW, incident_summary.ROW)


def start(context: Context, *, is_standby: bool = False) -> None:
    """Start a thread that looks for problems every 30 seconds.

    Args:
        context: The objects that this process shares, such as the database.
        is_standby: Look for problems only if no other process has done so for some time.
    """
    patience = STANDBY_SECONDS if is_standby else 0.0
    arguments = (context, threading.Event(), patience)
    threading.Thread(target=_look_on, args=arguments, name="notifying", daemon=True).start()


def _look_on(context: Context, stopped: threading.Event, patience: float) -> None:
    stopped.wait(patience)
    while not stopped.wait(LOOK_SECONDS):
        try:
            look_and_sum_up(context, patience)
        except Exception as err:
            if not is_unavailable(err):
                raise
            outage.database.failed(err)


def look_and_sum_up(context: Context, patience: float = 0.0) -> None:
    """Notify the operator of problems, send the daily summary, and log the summary of each minute.

    Args:
        context: The objects that this process shares, such as the database.
        patience: Seconds for which this process leaves due work to other processes.
    """
    if not context.operator_channels:
        summary.write_due(context.database, context.settings, patience=patience)
    elif found := look(context.database, context.settings, context.operator_channels, patience=patience):
        summary.write_due(context.database, context.settings, found, patience=patience)
        incident_summary.send_due(context.database, context.settings.operator_summary_hours, context.operator_channels)


def look(
    database: Database,
    settings: Settings,
    channels: Sequence[OperatorChannel],
    problems: Callable[[], Sequence[Problem]] | None = None,
    *,
    patience: float = 0.0,
) -> Overview | None:
    """Notify the operator of new and ended problems, at most every 30 seconds.

    Args:
        channels: The channels to the operator.
        problems: Returns the current problems. By default, they are read from the database.
        patience: Seconds to add to the 30 seconds, so that other processes do the work first.

    Returns:
        The state of the service, or None if nothing was due or `problems` was given.
    """
    with database.write() as session:
        if not claim(session, _LOOKOUT, LOOK_SECONDS + patience):
            return None
    seen = None if problems else overview(database, settings)
    found = problems() if problems else seen.problems if seen else ()
    with database.write() as session:
        due = _due(session, [one for one in found if one.kind not in SETTINGS])
    operator_messages.send(database, channels, [*due.begun.values(), *due.over.values()])
    if due.begun or due.over:
        with database.write() as session:
            session.execute(update(NotifiedProblem).where(NotifiedProblem.key.in_(due.begun)).values(told_at=db_now()))
            session.execute(delete(NotifiedProblem).where(NotifiedProblem.key.in_(due.over)))
    return seen


@dataclass(frozen=True, slots=True)
class _DueNews:
    """The messages to send to the operator now: about new problems (`begun`) and ended ones (`over`)."""

    begun: dict[str, News]
    over: dict[str, News]


def _due(session: Session, found: Sequence[Problem]) -> _DueNews:
    """Store the current problems. Return the messages to send to the operator now."""
    now = session.execute(select(db_now())).scalar_one()
    stored = session.execute(select(NotifiedProblem)).scalars()
    rows = {row.key: row for row in stored if row.key not in _NO_PROBLEMS}
    begun: dict[str, News] = {}
    current = {one.key[:255]: one for one in found}
    for key, one in current.items():
        row = rows.get(key)
        if row is None:
            row = NotifiedProblem(key=key, kind=one.kind.value, sentence="", todo="", first_at=now, last_at=now)
            session.add(row)
        row.sentence, row.todo, row.last_at = one.sentence, one.todo, now
        lasting = 0.0 if one.kind in DECISIONS else LASTING_SECONDS
        if row.told_at is None and (now - row.first_at).total_seconds() >= lasting:
            kind: NewsKind = "decision" if one.kind in DECISIONS else "problem"
            since = one.since or row.first_at
            begun[key] = News(kind, one.kind.value, one.sentence, one.todo, since, one.docs, one.subject)
    over: dict[str, News] = {}
    for key in rows.keys() - current.keys():
        if rows[key].told_at is None:
            session.delete(rows[key])
        else:
            subject = key.partition(":")[2]
            over[key] = News("over", rows[key].kind, rows[key].sentence, subject=subject)
    return _DueNews(begun, over)

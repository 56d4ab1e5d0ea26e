"""Sends the operator a summary of the new incidents, by default once a day."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from notifications.operator_channels import News, OperatorChannel
from scanner.records.canaries import is_no_canary
from scanner.records.database import Database
from scanner.records.health_models import NotifiedProblem
from scanner.records.models import Incident, Notification, db_now
from scanner.records.states import Channel, NotificationState
from workers.health import operator_messages
from workers.health.claims import claim
from workers.health.incidents import disable_delays
from workers.health.problems import counted, span

ROW = "incident_summary"
"""The `key` and `kind` of the database row that records the last summary.

The row's `told_at` is the end of the period that this summary covered.
"""
MAX_SECONDS = 7 * 86400.0
"""The longest period that one summary covers."""


def send_due(database: Database, hours: int, channels: Sequence[OperatorChannel]) -> bool:
    """Send the summary of new incidents if it is due. Return True if this process has sent it.

    Args:
        hours: The hours between two summaries, or 0 to send none.
    """
    if not hours or not channels:
        return False
    with database.write() as session:
        if not claim(session, ROW, hours * 3600.0):
            return False
        now, covered = session.execute(
            select(db_now(), NotifiedProblem.told_at).where(NotifiedProblem.key == ROW)
        ).one()
        since = max(covered or now - timedelta(hours=hours), now - timedelta(seconds=MAX_SECONDS))
        news = _news(session, since, now)
    if news is not None:
        operator_messages.send(database, channels, [news])
    with database.write() as session:
        session.execute(update(NotifiedProblem).where(NotifiedProblem.key == ROW).values(told_at=now))
    return news is not None


def _news(session: Session, since: datetime, now: datetime) -> News | None:
    """Return a summary of the incidents between two times, or None if there are none."""
    statement = (
        select(Incident.action, func.count())
        .where(Incident.detected_at > since, Incident.detected_at <= now, is_no_canary())
        .group_by(Incident.action)
        .order_by(func.count().desc(), Incident.action)
    )
    actions = {str(action): int(number) for action, number in session.execute(statement)}
    if not actions:
        return None
    seconds = (now - since).total_seconds()
    failed = session.execute(
        select(func.count()).where(
            Notification.channel == Channel.EMAIL,
            Notification.state == NotificationState.FAILED,
            Notification.created_at > since,
        )
    ).scalar_one()
    parts = [f"{number:,} {action.replace('_', ' ')}" for action, number in actions.items()]
    sentence = f"{counted(sum(actions.values()), 'incident')} in {span(seconds)}: {', '.join(parts)}"
    if delays := disable_delays(session, seconds):
        sentence += f"; half of the leaks were disabled within {span(statistics.median(delays))} of becoming public"
    if failed:
        sentence += f"; {counted(failed, 'mail')} to owners could not be delivered"
    return News("summary", "incidents", sentence, f"see r8scan incidents list --since {since:%Y-%m-%d}")

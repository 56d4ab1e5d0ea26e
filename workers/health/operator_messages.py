"""Sends messages to the operator on every channel. Messages that a channel refuses are kept in the database."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import delete, select

from notifications.operator_channels import News, OperatorChannel, OperatorNotNotified
from scanner.records.database import Database
from scanner.records.health_models import RefusingChannel
from scanner.records.models import db_now
from workers.health.problems import Kind

MAX_KEPT = 50
"""The maximum number of messages to keep for a channel that refuses them. The oldest are dropped."""

_log = logging.getLogger(__name__)


def send(database: Database, channels: Sequence[OperatorChannel], news: Sequence[News]) -> None:
    """Send the messages, and the messages that were refused before, on every channel."""
    with database.read() as session:
        kept = {row.channel: _news(row) for row in session.execute(select(RefusingChannel)).scalars()}
    for channel in channels:
        was_failing = channel.name in kept
        # Do not report a failing channel on the same channel: the message would arrive only when the problem is over.
        new = [one for one in news if (one.name, one.subject) != (Kind.OPERATOR_NOT_REACHED, channel.name)]
        due = [*kept.pop(channel.name, ()), *new]
        if not due:
            continue
        try:
            channel.notify(due)
        except OperatorNotNotified as err:
            if not was_failing:
                _log.error(
                    "the operator could not be notified by %s, which is tried again every 30 s: %s", channel.name, err
                )
            _keep(database, channel.name, due[-MAX_KEPT:], str(err))
        else:
            if was_failing:
                _forget(database, channel.name)
    _forget(database, *kept)  # forget channels that are no longer in the settings


def _keep(database: Database, channel: str, news: Sequence[News], error: str) -> None:
    messages = [{**asdict(one), "since": one.since.isoformat() if one.since else None} for one in news]
    with database.write() as session:
        row = session.get(RefusingChannel, channel)
        if row is None:
            row = RefusingChannel(channel=channel, first_at=db_now())
            session.add(row)
        row.error, row.messages, row.last_at = error, messages, db_now()


def _forget(database: Database, *channels: str) -> None:
    if channels:
        with database.write() as session:
            session.execute(delete(RefusingChannel).where(RefusingChannel.channel.in_(channels)))


def _news(row: RefusingChannel) -> list[News]:
    return [
        News(**{**one, "since": datetime.fromisoformat(one["since"]) if one["since"] else None}) for one in row.messages
    ]

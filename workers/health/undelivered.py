"""Finds the channels to the operator that accept no messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from scanner.records.health_models import NotifiedProblem
from workers.health.problems import Kind, Problem, counted

KIND = "undelivered"
"""The `kind` of the database rows for channels that refuse messages.

In such a row, `sentence` is the channel's last error, and `todo` contains the refused messages as JSON.
"""
MAIL = "mail"
"""The name of the channel that sends mails."""
FAILING_SECONDS = 30
"""A channel is reported only after it has failed for this long, because it is tried again every 30 seconds."""
TRIED_SECONDS = 300
"""If a channel was not tried for this long, it is not reported, because it may no longer be in the settings."""


def key(channel: str) -> str:
    """Return the key of the database row with this channel's refused messages."""
    return f"{KIND}:{channel}"


def rows() -> Select[NotifiedProblem]:
    """Return the SQL query for the rows with refused messages, one for each channel."""
    return select(NotifiedProblem).where(NotifiedProblem.kind == KIND).order_by(NotifiedProblem.key)


def problems(session: Session, now: datetime) -> Iterator[Problem]:
    """Yield a problem for each channel that has accepted no message for more than FAILING_SECONDS."""
    for row in session.execute(rows()).scalars():
        is_tried = (now - row.last_at).total_seconds() < TRIED_SECONDS
        if is_tried and (now - row.first_at).total_seconds() > FAILING_SECONDS:
            channel = row.key.partition(":")[2]
            waiting = counted(len(json.loads(row.todo)), "message waits", "messages wait")
            sentence = f"the operator cannot be reached by {channel} ({row.sentence}); {waiting}"
            yield Problem(Kind.OPERATOR_NOT_REACHED, sentence, _todo(channel), row.first_at, channel)


def _todo(channel: str) -> str:
    if channel == MAIL:
        return "test the mail server with r8scan email test; r8scan tries again every 30 s"
    return f"repair the receiver, or correct R8SCAN_OPERATOR_{channel.upper()}_URL; r8scan tries again every 30 s"

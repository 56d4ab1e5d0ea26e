"""Finds the channels to the operator that accept no messages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records.health_models import RefusingChannel
from scanner.records.models import table_of
from workers.health.problems import Kind, Problem, counted

MAIL = "mail"
"""The name of the channel that sends mails."""
FAILING_SECONDS = 30
"""A channel is reported only after it has failed for this long, because it is tried again every 30 seconds."""
TRIED_SECONDS = 300
"""If a channel was not tried for this long, it is not reported, because it may no longer be in the settings."""


def problems(session: Session, now: datetime) -> Iterator[Problem]:
    """Yield a problem for each channel that has accepted no message for more than FAILING_SECONDS."""
    table = table_of(RefusingChannel)
    for row in session.execute(select(table).order_by(table.c.channel)):
        is_tried = (now - row.last_at).total_seconds() < TRIED_SECONDS
        if is_tried and (now - row.first_at).total_seconds() > FAILING_SECONDS:
            waiting = counted(len(row.messages), "message waits", "messages wait")
            sentence = f"the operator cannot be reached by {row.channel} ({row.error}); {waiting}"
            yield Problem(Kind.OPERATOR_NOT_REACHED, sentence, _todo(row.channel), row.first_at, row.channel)


def _todo(channel: str) -> str:
    if channel == MAIL:
        return "test the mail server with r8scan email test; r8scan tries again every 30 s"
    return f"repair the receiver, or correct R8SCAN_OPERATOR_{channel.upper()}_URL; r8scan tries again every 30 s"

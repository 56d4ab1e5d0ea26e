"""Notifying: the rows of the outbox that are due."""

from __future__ import annotations

from notifications.delivery import deliver_due
from workers import context
from workers.celery import app
from workers.doorbell import ring


@app.task(name="r8scan.deliver")  # type: ignore[untyped-decorator]  # celery has no types
def deliver() -> None:
    """Send a bounded number of messages; rings again while there are more."""
    own = context.current()
    report = deliver_due(own.database, own.transport, own.identity, rate=own.settings.mail_rate)
    if report.claimed:
        ring("r8scan.deliver")

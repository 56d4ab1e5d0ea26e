"""Notifying: the rows of the outbox that are due, mails and announcements each by a task of its own."""

from __future__ import annotations

from notifications.announcing import announce_due
from notifications.delivery import deliver_due
from workers import bulkheads, context
from workers.celery import app
from workers.wake import wake


@app.task(name="r8scan.deliver")  # type: ignore[untyped-decorator]  # celery has no types
def deliver() -> None:
    """Send a bounded number of messages; rings again while there are more."""
    with bulkheads.place("deliver") as is_free:
        if not is_free:
            return  # whoever is at it rings again when it is done
        own = context.current()
        report = deliver_due(own.database, own.transport, own.identity, rate=own.settings.mail_rate)
    if report.claimed:
        wake("r8scan.deliver")


@app.task(name="r8scan.announce")  # type: ignore[untyped-decorator]  # celery has no types
def announce() -> None:
    """Tell gateways of a bounded number of disabled tokens; rings again while there are more."""
    with bulkheads.place("announce") as is_free:
        if not is_free:
            return
        own = context.current()
        report = announce_due(own.database, own.gateways)
    if report.sent:
        wake("r8scan.announce")

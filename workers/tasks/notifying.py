"""The tasks that send mails to their recipients and announcements to API gateways."""

from __future__ import annotations

from notifications.announcing import announce_due
from notifications.delivery import deliver_due
from workers import bulkheads
from workers.celery import app
from workers.context import current_context
from workers.wake import wake


@app.task(name="r8scan.deliver")  # type: ignore[untyped-decorator]  # celery has no types
def deliver() -> None:
    """Send a limited number of due mails."""
    with bulkheads.slot("deliver") as is_free:
        if not is_free:
            return  # enough of these tasks run already
        context = current_context()
        report = deliver_due(context.database, context.transport, context.identity, rate=context.settings.mail_rate)
    if report.claimed:
        wake("r8scan.deliver")


@app.task(name="r8scan.announce")  # type: ignore[untyped-decorator]  # celery has no types
def announce() -> None:
    """Announce a limited number of disabled tokens to API gateways."""
    with bulkheads.slot("announce") as is_free:
        if not is_free:
            return
        context = current_context()
        report = announce_due(context.database, context.gateways)
    if report.sent:
        wake("r8scan.announce")

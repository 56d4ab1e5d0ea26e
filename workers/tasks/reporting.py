"""Reporting: reports that were recorded and are undecided are decided."""

from __future__ import annotations

from scanner.compromise import settling
from workers import bulkheads, context
from workers.celery import app
from workers.wake import wake, wake_outbox


@app.task(name="r8scan.settle_reports")  # type: ignore[untyped-decorator]  # celery has no types
def settle_reports() -> None:
    """Decide on the reports that are due, and wake another worker while there are more."""
    with bulkheads.place("settle_reports") as is_free:
        if not is_free:
            return
        own = context.current()
        due, settled = settling.settle_due(own.database, policy=own.policy, per_minute=own.settings.brake_per_minute)
    if due:
        wake("r8scan.settle_reports")
    if settled.has_news:
        wake_outbox()

"""The task that decides whether the tokens in reports are disabled."""

from __future__ import annotations

from scanner.compromise import settling
from workers import bulkheads
from workers.celery import app
from workers.context import current_context
from workers.wake import wake, wake_outbox


@app.task(name="r8scan.settle_reports")  # type: ignore[untyped-decorator]  # celery has no types
def settle_reports() -> None:
    """Decide whether to disable the tokens in new reports. The number of reports is limited."""
    with bulkheads.slot("settle_reports") as is_free:
        if not is_free:
            return
        context = current_context()
        result = settling.settle_due(
            context.database, policy=context.policy, per_minute=context.settings.brake_per_minute
        )
    if result.due:
        wake("r8scan.settle_reports")
    if result.settled.has_notifications:
        wake_outbox()

"""The task that plants canaries (test tokens on GitHub)."""

from __future__ import annotations

from scanner.sources.canaries import planting
from workers import bulkheads
from workers.celery import app
from workers.context import current_context
from workers.wake import wake


@app.task(name="r8scan.plant_canaries")  # type: ignore[untyped-decorator]  # celery has no types
def plant_canaries() -> None:
    """Plant the canaries (test tokens) that are due, at most one in each kind of place."""
    with bulkheads.slot("plant_canaries") as is_free:
        if not is_free:
            return
        context = current_context()
        planted = planting.plant_due(context)
    if planted:
        wake("r8scan.scan")
        wake("r8scan.fetch")

"""Polling: ticks of the beat become polls of the sources that are due."""

from __future__ import annotations

from scanner.response.responder import look_up_due
from scanner.sources.registry import SOURCES
from workers import bulkheads, context
from workers.celery import app
from workers.wake import MAX_WAKES, TASKS_OF_JOBS, wake, wake_outbox


@app.task(name="r8scan.poll")  # type: ignore[untyped-decorator]  # celery has no types
def poll(source: str) -> None:
    """Poll one source if it is due."""
    own = context.current()
    if source not in own.settings.sources:
        return
    chosen = SOURCES[source]
    report = chosen.poll(own)
    if report.jobs:
        for task in dict.fromkeys(TASKS_OF_JOBS[kind] for kind in chosen.job_kinds):
            wake(task, min(report.jobs, MAX_WAKES))
    if report.candidates:
        # Not here: a store that hangs must not take a thread from polling.
        wake("r8scan.look_up")


@app.task(name="r8scan.look_up")  # type: ignore[untyped-decorator]  # celery has no types
def look_up() -> None:
    """Respond to the sightings that are due; rings again while there are more."""
    with bulkheads.place("look_up") as is_free:
        if is_free:
            _look_up()


def _look_up() -> None:
    own = context.current()
    looked_up, response = look_up_due(own.database, policy=own.policy)
    if looked_up:
        wake("r8scan.look_up")
    if response.has_news:
        wake_outbox()

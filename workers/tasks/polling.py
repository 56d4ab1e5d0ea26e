"""Polling tasks: they poll the due sources, and look up the found candidates in the token store."""

from __future__ import annotations

from scanner.response.responder import look_up_due
from scanner.sources.polling import leased_poll
from scanner.sources.registry import SOURCES
from workers import bulkheads
from workers.celery import app
from workers.context import current_context
from workers.wake import MAX_WAKES, TASKS_OF_JOBS, wake, wake_outbox


@app.task(name="r8scan.poll_due")  # type: ignore[untyped-decorator]  # celery has no types
def poll_due() -> None:
    """Wake the poll of each source that is due. Beat sends this task every second.

    One query for all sources is cheaper than one task for each source.
    """
    context = current_context()
    for source in leased_poll.due_sources(context.database, context.settings.polled_sources):
        wake("r8scan.poll", arguments=(source,))


@app.task(name="r8scan.poll")  # type: ignore[untyped-decorator]  # celery has no types
def poll(source: str) -> None:
    """Poll one source if it is due. Wake the tasks that process the jobs and candidates from this poll."""
    context = current_context()
    if source not in context.settings.sources:
        return
    chosen = SOURCES[source]
    report = chosen.poll(context)
    if report.jobs:
        for task in dict.fromkeys(TASKS_OF_JOBS[kind] for kind in chosen.job_kinds):
            wake(task, min(report.jobs, MAX_WAKES))
    if report.candidates:
        # Look the candidates up in another task, so that a hung token store takes no thread from polling.
        wake("r8scan.look_up")


@app.task(name="r8scan.look_up")  # type: ignore[untyped-decorator]  # celery has no types
def look_up() -> None:
    """Look up a limited number of due sightings in the token store, and respond to those that are tokens.

    If any were due, wake this task again, because more may be due.
    """
    with bulkheads.slot("look_up") as is_free:
        if is_free:
            _look_up()


def _look_up() -> None:
    context = current_context()
    looked_up = look_up_due(context.database, policy=context.policy)
    if looked_up.sightings:
        wake("r8scan.look_up")
    if looked_up.response.has_notifications:
        wake_outbox()

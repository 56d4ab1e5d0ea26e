"""The tasks that poll GitHub, and ask the token store about found tokens."""

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
    """Start the poll of each source (a list on GitHub or another feed) that is due."""
    context = current_context()
    for source in leased_poll.due_sources(context.database, context.settings.polled_sources):
        wake("r8scan.poll", arguments=(source,))


@app.task(name="r8scan.poll")  # type: ignore[untyped-decorator]  # celery has no types
def poll(source: str) -> None:
    """Poll one source (such as GitHub's event timeline) if it is due, and start the tasks that process the results."""
    context = current_context()
    if source not in context.settings.sources:
        return
    chosen = SOURCES[source]
    report = chosen.poll(context)
    if report.jobs:
        for task in dict.fromkeys(TASKS_OF_JOBS[kind] for kind in chosen.job_kinds):
            wake(task, min(report.jobs, MAX_WAKES))
    if report.candidates:
        # Ask the token store in another task, because a token store that hangs must not block the polls.
        wake("r8scan.look_up")


@app.task(name="r8scan.look_up")  # type: ignore[untyped-decorator]  # celery has no types
def look_up() -> None:
    """Ask the token store about a limited number of found tokens, and disable known tokens if the settings allow it."""
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

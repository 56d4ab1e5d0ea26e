"""The tasks that poll GitHub, and ask the token store about the tokens that were found."""

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
    """Start the poll of each source (a list on GitHub or another feed) that is due.

    Beat (the scheduler) sends this task every second.
    """
    context = current_context()
    for source in leased_poll.due_sources(context.database, context.settings.polled_sources):
        wake("r8scan.poll", arguments=(source,))


@app.task(name="r8scan.poll")  # type: ignore[untyped-decorator]  # celery has no types
def poll(source: str) -> None:
    """Poll one source (such as GitHub's event timeline) if it is due.

    Then start the tasks that process the new jobs and the tokens that were found.
    """
    context = current_context()
    if source not in context.settings.sources:
        return
    chosen = SOURCES[source]
    report = chosen.poll(context)
    if report.jobs:
        for task in dict.fromkeys(TASKS_OF_JOBS[kind] for kind in chosen.job_kinds):
            wake(task, min(report.jobs, MAX_WAKES))
    if report.candidates:
        # Ask the token store about the found tokens in another task. If the store hangs, that blocks no thread that
        # polls.
        wake("r8scan.look_up")


@app.task(name="r8scan.look_up")  # type: ignore[untyped-decorator]  # celery has no types
def look_up() -> None:
    """Ask the token store about found tokens, up to a limit. Disable the tokens that the store knows.

    A token is not disabled if the settings forbid it, for example in the mode `observe`.

    If there were any tokens to look up, start this task again, because more may wait.
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

"""Polling: ticks of the beat become polls of the sources that are due."""

from __future__ import annotations

from collections.abc import Callable

from scanner.response.responder import look_up_due
from scanner.sources import archive_hours, code_search, event_archive, gists, public_events
from scanner.sources.polls import PollReport
from workers import bulkheads, context
from workers.celery import app
from workers.context import Context
from workers.doorbell import MOST_RINGS, ring, ring_outbox


@app.task(name="r8scan.poll")  # type: ignore[untyped-decorator]  # celery has no types
def poll(source: str) -> None:
    """Poll one source if it is due."""
    own = context.current()
    if source not in own.settings.sources:
        return
    report = _POLLS[source](own)
    if report.jobs:
        for task in _RINGS[source]:
            ring(task, min(report.jobs, MOST_RINGS))
    if report.candidates:
        # Not here: a store that hangs must not take a thread from polling.
        ring("r8scan.look_up")


def _public_events(own: Context) -> PollReport:
    return public_events.poll(own.database, own.github, own.detector, state_dir=own.settings.state_dir)


def _code_search(own: Context) -> PollReport:
    return code_search.poll(own.database, own.github, own.detector, queries=own.settings.search_queries)


def _gists(own: Context) -> PollReport:
    return gists.poll(own.database, own.github_of_gists, own.detector)


def _event_archive(own: Context) -> PollReport:
    return event_archive.poll(own.database) if own.settings.archive_url else PollReport()


_POLLS: dict[str, Callable[[Context], PollReport]] = {
    public_events.SOURCE: _public_events,
    code_search.SOURCE: _code_search,
    gists.SOURCE: _gists,
    archive_hours.SOURCE: _event_archive,
}
_RINGS = {
    public_events.SOURCE: ("r8scan.scan", "r8scan.rescan", "r8scan.fetch"),
    code_search.SOURCE: ("r8scan.fetch",),
    gists.SOURCE: ("r8scan.fetch",),
    archive_hours.SOURCE: ("r8scan.rescan",),
}


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
        ring("r8scan.look_up")
    if response.has_news:
        ring_outbox()

"""Polling: ticks of the beat become polls of the sources that are due."""

from __future__ import annotations

from scanner.response.respond import look_up_again
from scanner.sources import public_events
from workers import context
from workers.celery import app
from workers.doorbell import MOST_RINGS, ring


@app.task(name="r8scan.poll")  # type: ignore[untyped-decorator]  # celery has no types
def poll(source: str) -> None:
    """Poll one source if it is due."""
    own = context.current()
    if source not in own.settings.sources:
        return
    report = public_events.poll(own.database, own.github, own.detector, state_dir=own.settings.state_dir)
    if report.jobs:
        ring("r8scan.scan", min(report.jobs, MOST_RINGS))
        ring("r8scan.rescan")
    if report.candidates:
        look_up()


@app.task(name="r8scan.look_up")  # type: ignore[untyped-decorator]  # celery has no types
def look_up() -> None:
    """Respond to the sightings that are due; rings again while there are more."""
    own = context.current()
    looked_up, response = look_up_again(own.database, policy=own.policy)
    if looked_up:
        ring("r8scan.look_up")
    if response.has_news:
        ring("r8scan.deliver")

"""Scanning: the most urgent job that is due."""

from __future__ import annotations

from scanner.sources.files import scan as remote_files
from scanner.sources.pushes import scan as push_scan
from scanner.sources.rescan import run as rescan
from workers import context
from workers.celery import app
from workers.doorbell import ring, ring_outbox


@app.task(name="r8scan.scan")  # type: ignore[untyped-decorator]  # celery has no types
def scan() -> None:
    """Do one page of pushes; rings again, so that polls come between two pages."""
    own = context.current()
    response = push_scan.scan_next(
        own.database,
        own.github,
        own.detector,
        own.policy,
        limits=own.limits,
        threads=own.settings.scan_threads,
        state_dir=own.settings.state_dir,
    )
    if response is None:
        return
    ring("r8scan.scan")
    if response.has_news:
        ring_outbox()


@app.task(name="r8scan.fetch")  # type: ignore[untyped-decorator]  # celery has no types
def fetch() -> None:
    """Do one page of files; rings again while there are more."""
    own = context.current()
    response = remote_files.scan_next(
        own.database,
        own.github,
        own.detector,
        own.policy,
        threads=own.settings.scan_threads,
        state_dir=own.settings.state_dir,
    )
    if response is None:
        return
    ring("r8scan.fetch")
    if response.has_news:
        ring_outbox()


@app.task(name="r8scan.rescan")  # type: ignore[untyped-decorator]  # celery has no types
def rescan_repository() -> None:
    """Do one step of a repository's rescan; rings again for the next."""
    own = context.current()
    response = rescan.rescan_next(
        own.database,
        own.github,
        own.detector,
        own.policy,
        settings=own.settings,
    )
    if response is None:
        return
    ring("r8scan.rescan")
    if response.has_news:
        ring_outbox()

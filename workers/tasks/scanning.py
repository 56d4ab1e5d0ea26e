"""Scanning: the most urgent job that is due."""

from __future__ import annotations

from scanner.response.respond import Response
from scanner.sources.files import scan as remote_files
from scanner.sources.pushes import scan as push_scan
from scanner.sources.rescan import run as rescan
from workers import context
from workers.bulkheads import place
from workers.celery import app
from workers.wake import wake, wake_outbox


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
    wake("r8scan.scan")
    if response.has_news:
        wake_outbox()


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
    wake("r8scan.fetch")
    if response.has_news:
        wake_outbox()


@app.task(name="r8scan.scan_slow")  # type: ignore[untyped-decorator]  # celery has no types
def scan_slow() -> None:
    """Do one push, or one file, that takes long; rings again while there are more."""
    with place("scan_slow") as is_free:
        response = _scan_slow() if is_free else None
    if response is None:
        return
    wake("r8scan.scan_slow")
    if response.has_news:
        wake_outbox()


def _scan_slow() -> Response | None:
    own = context.current()
    threads, state_dir = 1, own.settings.state_dir
    response = push_scan.scan_next(
        own.database,
        own.github,
        own.detector,
        own.policy,
        limits=own.limits,
        threads=threads,
        state_dir=state_dir,
        kind="slow_pushes",
    )
    if response is not None:
        return response
    return remote_files.scan_next(
        own.database, own.github, own.detector, own.policy, threads=threads, state_dir=state_dir, kind="slow_files"
    )


@app.task(name="r8scan.rescan")  # type: ignore[untyped-decorator]  # celery has no types
def rescan_repository() -> None:
    """Do one step of a repository's rescan; rings again for the next."""
    own = context.current()
    with place("rescan") as is_free:
        if not is_free:
            return
        response = rescan.rescan_next(
            own.database,
            own.github,
            own.detector,
            own.policy,
            settings=own.settings,
        )
    if response is None:
        return
    wake("r8scan.rescan")
    if response.has_news:
        wake_outbox()

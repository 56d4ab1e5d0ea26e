"""The tasks that scan. Each run of a task scans one part of the most urgent job that is due."""

from __future__ import annotations

from scanner.records.states import JobKind
from scanner.response.respond import Response
from scanner.sources.files import scan as remote_files
from scanner.sources.pushes import scan as push_scan
from scanner.sources.rescan import run as rescan
from workers.bulkheads import slot
from workers.celery import app
from workers.context import current_context
from workers.wake import wake, wake_outbox


@app.task(name="r8scan.scan")  # type: ignore[untyped-decorator]  # celery has no types
def scan() -> None:
    """Scan a limited number of the most urgent pushes."""
    context = current_context()
    response = push_scan.scan_next(
        context.database,
        context.github,
        context.detector,
        context.policy,
        limits=context.limits,
        threads=context.settings.scan_threads,
        state_dir=context.settings.state_dir,
    )
    _go_on("r8scan.scan", response)


@app.task(name="r8scan.fetch")  # type: ignore[untyped-decorator]  # celery has no types
def fetch() -> None:
    """Scan a limited number of the most urgent files."""
    context = current_context()
    response = remote_files.scan_next(
        context.database,
        context.github,
        context.detector,
        context.policy,
        threads=context.settings.scan_threads,
        state_dir=context.settings.state_dir,
    )
    _go_on("r8scan.fetch", response)


@app.task(name="r8scan.scan_slow")  # type: ignore[untyped-decorator]  # celery has no types
def scan_slow() -> None:
    """Scan one push, or else one file, that takes a long time to read."""
    with slot("scan_slow") as is_free:
        response = _scan_slow() if is_free else None
    _go_on("r8scan.scan_slow", response)


def _scan_slow() -> Response | None:
    context = current_context()
    threads, state_dir = 1, context.settings.state_dir
    response = push_scan.scan_next(
        context.database,
        context.github,
        context.detector,
        context.policy,
        limits=context.limits,
        threads=threads,
        state_dir=state_dir,
        kind=JobKind.SLOW_PUSHES,
    )
    if response is not None:
        return response
    return remote_files.scan_next(
        context.database,
        context.github,
        context.detector,
        context.policy,
        threads=threads,
        state_dir=state_dir,
        kind=JobKind.SLOW_FILES,
    )


@app.task(name="r8scan.rescan")  # type: ignore[untyped-decorator]  # celery has no types
def rescan_repository() -> None:
    """Do one step of a rescan."""
    context = current_context()
    with slot("rescan") as is_free:
        if not is_free:
            return
        response = rescan.rescan_next(
            context.database,
            context.github,
            context.detector,
            context.policy,
            settings=context.settings,
        )
    _go_on("r8scan.rescan", response)


def _go_on(task_name: str, response: Response | None) -> None:
    """Start the task again if it has done work (`response` is not None)."""
    if response is None:
        return
    wake(task_name)
    if response.has_notifications:
        wake_outbox()

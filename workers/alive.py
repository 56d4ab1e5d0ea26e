"""The liveness check of a worker: the worker touches a file, and `python -m workers.alive` checks the file's age.

Celery's own check, a ping through Redis, would require workers to obey commands from Redis, including "shut down".
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from celery import bootsteps

from scanner.settings import SettingsError, load_settings

TOUCH_SECONDS = 5.0
MAX_AGE_SECONDS = 60.0


class LivenessFile(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
    """A worker component that touches the file of `R8SCAN_ALIVE_FILE` from the worker's loop, unless the loop hangs."""

    requires = ("celery.worker.components:Timer",)

    def start(self, parent: Any) -> None:
        path = load_settings().alive_file
        if path is not None:
            path.touch(mode=0o600)
            parent.timer.call_repeatedly(TOUCH_SECONDS, path.touch)


def problem(path: Path | None) -> str | None:
    """Return in one line why the worker does not count as alive, or None if it does."""
    if path is None:
        return "R8SCAN_ALIVE_FILE is not set"
    try:
        age = time.time() - path.stat().st_mtime
    except OSError as err:
        return f"cannot read the age of {path}: {err.strerror}"
    return f"the worker has not touched its file for {age:.0f} s" if age > MAX_AGE_SECONDS else None


def main() -> None:
    try:
        found = problem(load_settings().alive_file)
    except SettingsError as err:
        found = str(err)
    if found is not None:
        print(f"r8scan: {found}", file=sys.stderr)  # noqa: T201 - the health check's log shows it
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Celery's worker and beat, without the texts that they would print outside the log: banners, and words at a
shutdown.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery.apps import beat, worker


class Worker(worker.Worker):  # type: ignore[misc]  # celery has no types
    """A worker that prints no banner."""

    def emit_banner(self) -> None:
        """Print nothing: `r8scan settings` and `r8scan status` show what the banner would."""


class Beat(beat.Beat):  # type: ignore[misc]  # celery has no types
    """A beat that prints no banner."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "quiet": True})


def say(message: str, _: object = None) -> None:
    """Write a line of Celery's signal handlers to standard error, as JSON where the log is JSON.

    The logging module must not be used in a signal handler: the signal may have interrupted it in mid-line.
    """
    line = message if _is_console else json.dumps(_event(message))
    try:
        os.write(2, f"{line}\n".encode())
    except OSError:
        return  # nobody reads standard error any more, but the shutdown continues


def _event(message: str) -> dict[str, str]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"event": message, "level": "warning", "logger": "celery.apps.worker", "timestamp": now}


def say_as(log_format: str) -> None:
    """Make Celery's signal handlers use `say` in this format."""
    global _is_console
    _is_console = log_format != "json"
    worker.safe_say = say


_is_console = True

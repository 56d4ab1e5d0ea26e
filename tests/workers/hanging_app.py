"""The Celery app with tasks that hang, and with short time limits."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from scanner.records import time_limits
from scanner.records.states import JobKind
from scanner.sources.polling import leased_poll
from scanner.sources.polling.report import PollReport
from scanner.sources.polling.source import PollContext
from scanner.sources.pushes import scan as push_scan
from scanner.sources.pushes.push import Push, PushReading
from scanner.sources.registry import SOURCES
from workers import watchdog
from workers.celery import app
from workers.tasks import polling

HANGING = "hangs/app"

time_limits.JOB_SECONDS[JobKind.PUSHES] = 1.0
time_limits.POLL_SECONDS["gists"] = 1.0
watchdog.current().grace_seconds = 0.5


def _hang() -> NoReturn:
    """Start a child process, write both process ids into the file `hanging`, and block forever."""
    child = subprocess.Popen(["tail", "-f", "/dev/null"])
    with (Path(os.environ["R8SCAN_STATE_DIR"]) / "hanging").open("a") as listed:
        listed.write(f"{os.getpid()}\n{child.pid}\n")
    read_end, _write_end = os.pipe()
    os.read(read_end, 1)
    raise AssertionError("nobody writes to the pipe")


def _read_push(_github: Any, push: Push, _detector: Any, **_: Any) -> PushReading:
    if push.repository == HANGING:
        _hang()
    return PushReading()


def _poll_gists(context: PollContext) -> PollReport:
    return leased_poll.run_if_due(context.database, "gists", time.sleep, lambda _: _hang())


setattr(push_scan, "read_push", _read_push)  # noqa: B010 - mypy refuses a plain assignment, as it should elsewhere
hanging = replace(SOURCES["gists"], poll=_poll_gists)
setattr(polling, "SOURCES", {**SOURCES, "gists": hanging})  # noqa: B010 - mypy refuses a plain assignment, as it should elsewhere

__all__ = ["app"]

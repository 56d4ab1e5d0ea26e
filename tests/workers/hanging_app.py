"""The workers' Celery app with short time limits, in which reading some pushes and polling gists never ends."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, NoReturn

from scanner.records import time_limits
from scanner.sources import push_scan, turns
from scanner.sources.polls import PollReport
from scanner.sources.pushes import Push, PushReading
from workers import context, watchdog
from workers.celery import app
from workers.tasks import polling

HANGING = "hangs/app"

time_limits.JOB_SECONDS["pushes"] = 1.0
time_limits.POLL_SECONDS["gists"] = 1.0
watchdog.current().grace_seconds = 0.5


def _hang() -> NoReturn:
    """Block in a system call for ever, beside a child that writes nothing and so would not notice our end."""
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


def _poll_gists(own: context.Context) -> PollReport:
    return turns.in_turn(own.database, "gists", time.sleep, lambda _: _hang())


setattr(push_scan, "read_push", _read_push)  # noqa: B010 - mypy refuses a plain assignment, as it should elsewhere
polling._POLLS["gists"] = _poll_gists

__all__ = ["app"]

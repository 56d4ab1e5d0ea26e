"""Child processes that never outlive us, not even when we are killed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None, death_signal: signal.Signals = signal.SIGKILL) -> None:
    """Have this process get the signal when its parent ends; `parent` is checked, since it may have ended already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if parent is not None and os.getppid() != parent:  # it ended in the instant before
        os._exit(1)


def start_child(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    own_group: bool = False,
    death_signal: signal.Signals = signal.SIGKILL,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command that gets `death_signal` when this process ends for whatever reason (Linux).

    Call it from the main thread: the signal fires when the thread that started the child ends. `own_group` keeps a
    terminal's Ctrl-C from reaching the child before we have decided what to do.
    """
    parent = os.getpid()
    return subprocess.Popen(
        list(command),
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=own_group,
        preexec_fn=lambda: die_with_parent(parent, death_signal),
    )

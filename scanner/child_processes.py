"""Child processes that end when their parent ends, even if the parent is killed (Linux only)."""

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
    """Make Linux send `death_signal` to this process when its parent ends.

    If the parent is not the process with the id `parent`, exit immediately.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if parent is not None and os.getppid() != parent:  # the parent ended before prctl was called
        os._exit(1)


def start_child(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    own_group: bool = False,
    death_signal: signal.Signals = signal.SIGKILL,
    stdin: int | IO[Any] | None = subprocess.DEVNULL,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a command that gets `death_signal` when this process ends for any reason (Linux).

    Call this function from a thread that lives longer than the child, because the child ends with this thread.

    Args:
        env: Environment variables of the child. None: the child inherits the variables of this process.
        own_group: Start the child in a separate process group, so that a terminal's Ctrl-C does not reach it.
        death_signal: The signal that the child gets when this process ends.
    """
    parent = os.getpid()
    return subprocess.Popen(
        list(command),
        env=None if env is None else dict(env),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        start_new_session=own_group,
        preexec_fn=lambda: die_with_parent(parent, death_signal),
    )

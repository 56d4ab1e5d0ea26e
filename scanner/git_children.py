"""Starts all git processes of the project, with limits of memory and processor time."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from scanner.child_processes import die_with_parent

KILL_SECONDS = 30.0
"""The longest time to wait until a killed git process has ended."""

_SETTINGS = {
    # Settings that keep git from running other programs, such as hooks and credential helpers.
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.sshCommand": "false",
    "core.gitProxy": "",
    "core.askPass": "",
    "core.pager": "cat",
    "core.editor": "false",
    "core.alternateRefsCommand": "",
    "core.attributesFile": os.devnull,
    "credential.helper": "",
    "diff.external": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "safe.directory": "*",
    "safe.bareRepository": "all",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "transfer.bundleURI": "false",
    # Ignore replace refs, commit graphs and similar files, which the repository's owner may have forged.
    "core.useReplaceRefs": "false",
    "core.commitGraph": "false",
    "core.multiPackIndex": "false",
    "log.showSignature": "false",
    "log.mailmap": "false",
    # Limits of git's memory and threads. Git streams larger objects instead of loading them.
    "core.bigFileThreshold": "16m",
    "core.packedGitWindowSize": "32m",
    "core.packedGitLimit": "256m",
    "core.deltaBaseCacheLimit": "96m",
    "pack.windowMemory": "64m",
    "pack.deltaCacheSize": "32m",
    "pack.threads": "1",
    # Keep a received pack as one file, instead of one file for each object.
    "transfer.unpackLimit": "1",
    "fetch.fsckObjects": "false",
}


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Limits of each git process and of each process that it starts.

    Attributes:
        data_bytes: The maximum memory in bytes, without mapped files (RLIMIT_DATA).
        cpu_seconds: The maximum processor time in seconds (RLIMIT_CPU).
        file_bytes: The maximum size of a file that the process writes (RLIMIT_FSIZE).
    """

    data_bytes: int
    cpu_seconds: int
    file_bytes: int


READING = ProcessLimits(data_bytes=512 << 20, cpu_seconds=3600, file_bytes=0)
"""Limits of git commands that read objects and write nothing."""

RECEIVING = ProcessLimits(data_bytes=1 << 30, cpu_seconds=2 * 3600, file_bytes=1 << 40)
"""Limits of the git commands clone, fetch and unbundle."""


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return all environment variables for a git process. `settings` override the default git configuration."""
    merged = {**_SETTINGS, **(settings or {})}
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_CONFIG_COUNT": str(len(merged)),
    }
    for number, (key, value) in enumerate(merged.items()):
        variables[f"GIT_CONFIG_KEY_{number}"], variables[f"GIT_CONFIG_VALUE_{number}"] = key, value
    return variables


@contextmanager
def git_child(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    limits: ProcessLimits,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    stdout: int | IO[Any] = subprocess.DEVNULL,
    stderr: int | IO[Any] = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run git in a process group while the `with` block runs, then kill the whole group.

    Linux also kills git when the thread that started it ends.

    Raises:
        FileNotFoundError: The git program is not installed.
    """
    child = subprocess.Popen(
        list(command),
        env=dict(env),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        bufsize=0,
        start_new_session=True,
        preexec_fn=_limiter(limits, os.getpid()),
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all members of the group have ended
            os.killpg(child.pid, signal.SIGKILL)
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        child.wait(KILL_SECONDS)


def _limiter(limits: ProcessLimits, parent: int) -> Callable[[], None]:
    """Return a function that sets the limits in the child process before git is executed."""
    wanted = {
        resource.RLIMIT_DATA: limits.data_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    values = {kind: _lowered(value, resource.getrlimit(kind)[1]) for kind, value in wanted.items()}

    def limit() -> None:
        # This runs after a fork, so it must not take a lock: another thread may have held the lock at the fork.
        die_with_parent(parent)
        for kind, value in values.items():
            resource.setrlimit(kind, (value, value))

    return limit


def _lowered(value: int, hard: int) -> int:
    """Return the smaller of `value` and `hard`, a hard limit of the process."""
    return value if hard == resource.RLIM_INFINITY else min(value, hard)

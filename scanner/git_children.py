"""Starts git processes with limits: memory, processor time, no core files, a process group that is killed as a whole.

Every git process of the project is started here. It reads no configuration but the settings given here.
"""

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
"""A killed process that has not ended by then is stuck in the kernel; waiting longer would only hang the caller."""

_SETTINGS = {
    # Nothing may be run: no hooks, no monitors, no helpers, no other transports.
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
    # Derived files that a stranger may have forged are not believed.
    "core.useReplaceRefs": "false",
    "core.commitGraph": "false",
    "core.multiPackIndex": "false",
    "log.showSignature": "false",
    "log.mailmap": "false",
    # Memory: objects from 16 MB on are streamed where git can; maps, windows and caches are bounded; one thread.
    "core.bigFileThreshold": "16m",
    "core.packedGitWindowSize": "32m",
    "core.packedGitLimit": "256m",
    "core.deltaBaseCacheLimit": "96m",
    "pack.windowMemory": "64m",
    "pack.deltaCacheSize": "32m",
    "pack.threads": "1",
    # Received packs stay packs: loose objects would cost a file each.
    "transfer.unpackLimit": "1",
    "fetch.fsckObjects": "false",
}


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Limits of one git process and of each process that it starts.

    `data_bytes` is RLIMIT_DATA: heap and private writable maps. RLIMIT_AS would also count the read-only maps of packs
    and their indexes, which are as large as the repository and cost no memory of their own. `cpu_seconds` is
    RLIMIT_CPU. `file_bytes` is RLIMIT_FSIZE, the size of a file that it may write.
    """

    data_bytes: int
    cpu_seconds: int
    file_bytes: int


READING = ProcessLimits(data_bytes=512 << 20, cpu_seconds=3600, file_bytes=0)
"""For commands that read objects. One delta needs its base, its commands and its result at once; nothing is written."""

RECEIVING = ProcessLimits(data_bytes=1 << 30, cpu_seconds=2 * 3600, file_bytes=1 << 40)
"""For clone, fetch and unbundle. `index-pack` keeps some 100 bytes for each object; the caller bounds the disk."""


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the whole environment of a git process; `settings` are added to the safe ones or replace them."""
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
    """Run git in a process group of its own while the block runs; its pipes are not buffered.

    At the end of the block the whole group is killed, also when git itself has ended: its helpers may live on. Linux
    kills git as well when the thread that started it ends. Raises FileNotFoundError when git is not installed.
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
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group has no member any more
            os.killpg(child.pid, signal.SIGKILL)
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        child.wait(KILL_SECONDS)


def _limiter(limits: ProcessLimits, parent: int) -> Callable[[], None]:
    """Return what a new process does before it becomes git. Nothing in it may take a lock of the parent's."""
    wanted = {
        resource.RLIMIT_DATA: limits.data_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_CORE: 0,
    }
    values = {kind: _lowered(value, resource.getrlimit(kind)[1]) for kind, value in wanted.items()}

    def limit() -> None:
        die_with_parent(parent)
        for kind, value in values.items():
            resource.setrlimit(kind, (value, value))

    return limit


def _lowered(value: int, hard: int) -> int:
    """A process may lower its hard limits, never raise them."""
    return value if hard == resource.RLIM_INFINITY else min(value, hard)

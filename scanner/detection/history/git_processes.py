"""Runs git commands that read an untrusted repository."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scanner.git_children import READING, environment, git_child

DEFAULT_SECONDS = 6 * 3600.0
"""The maximum time for reading one repository."""


class GitError(Exception):
    """A git command failed. `detail` is git's error output, which the repository may control."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class Deadline:
    """The time at which reading a repository must end. The remaining objects are then counted as unread.

    Setting `stop` ends the reading earlier. Threads may share a deadline.
    """

    def __init__(self, seconds: float = DEFAULT_SECONDS, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()
        self._cancelled = threading.Event()
        self._end = time.monotonic() + seconds

    def cancel(self) -> None:
        """End the reading now, in all threads."""
        self._cancelled.set()

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self._end

    @property
    def is_over(self) -> bool:
        """Whether reading must end: the time is over, `stop` is set, or `cancel` was called."""
        return self._stop.is_set() or self._cancelled.is_set() or self.is_late

    @property
    def reason(self) -> str:
        """Why the remaining objects are unread: the time is over, or the reading was stopped."""
        return "history_seconds" if self.is_late and not self._stop.is_set() else "stopped"


@contextmanager
def started(
    git_dir: Path, arguments: Sequence[str], settings: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a git process with pipes for its input and output. The process is ended with the `with` block.

    Raises:
        GitError: git is not installed.
    """
    command = ["git", f"--git-dir={git_dir}", *arguments]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        try:
            running = git_child(command, env=environment(settings), limits=READING, stdin=pipe, stdout=pipe)
            child = stack.enter_context(running)
        except FileNotFoundError as err:
            raise GitError("git is not installed: histories cannot be read without it") from err
        yield child


def lines(
    git_dir: Path, arguments: Sequence[str], deadline: Deadline, *, separator: bytes = b"\n", stdin: bytes = b""
) -> Iterator[bytes]:
    """Run git and yield the parts of its output, which end with `separator`, as they arrive.

    Raises:
        GitError: git failed, or the deadline passed.
    """
    if deadline.is_over:
        raise GitError(f"git {arguments[0]} was not started: {deadline.reason}")
    with started(git_dir, arguments) as child, killed_at(deadline, child):
        assert child.stdout is not None  # noqa: S101 - it was asked for
        feeder = threading.Thread(target=_feed, args=(child, stdin), daemon=True)
        feeder.start()
        rest = b""
        while block := child.stdout.read(1 << 20):
            parts = (rest + block).split(separator)
            rest = parts.pop()
            yield from parts
        if rest:
            yield rest
        feeder.join()
        if child.wait() != 0:
            if deadline.is_over:
                raise GitError(f"git {arguments[0]} was ended: {deadline.reason}")
            raise GitError(f"git {arguments[0]} failed with status {child.returncode}")


@contextmanager
def killed_at(deadline: Deadline, child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the child process at the deadline, unless the `with` block ends before."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            if deadline.is_over:
                child.kill()
                return

    watcher = threading.Thread(target=watch, name="git-deadline", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _feed(child: subprocess.Popen[bytes], content: bytes) -> None:
    assert child.stdin is not None  # noqa: S101 - it was asked for
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(child.stdin.fileno(), view) :]
        child.stdin.close()
    except OSError:
        return  # git has exited; its status says why

"""Searches for the paths and commits of git objects in a process that cannot write files or use a network."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import scanner
from scanner.child_processes import start_child
from scanner.confinement import confine_to_reading
from scanner.detection.history.git_processes import Deadline, killed_at
from scanner.detection.history.git_repositories import Repository
from scanner.detection.history.object_places import MAX_PATH, ObjectPlace, ObjectPlaces
from scanner.detection.history.object_places import locate as locate_here

MEMORY_BYTES = 400 << 20
"""The memory limit (RLIMIT_DATA) of the process and of its git processes."""
MAX_LINE = 12 * MAX_PATH + 1024
"""The maximum number of bytes of a line that the search process writes."""

_ROOT = str(Path(scanner.__file__).parent.parent)
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from scanner.detection.history import place_process as p; p.main()"
)
_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def locate(repository: Repository, wanted: Collection[str], deadline: Deadline) -> ObjectPlaces:
    """Search for blobs and trees in a process of its own, and return their paths and commits."""
    places = ObjectPlaces(is_complete=False)
    try:
        running = _process()
    except OSError:
        return places  # no process can be started, so the objects are counted as not located
    request = {"git_dir": str(repository.git_dir), "tips": repository.tips, "wanted": sorted(wanted)}
    with running as child, killed_at(deadline, child):
        assert child.stdin is not None  # noqa: S101 - it was asked for
        assert child.stdout is not None  # noqa: S101 - it was asked for
        feeder = threading.Thread(target=_feed, args=(child, json.dumps(request).encode()), daemon=True)
        feeder.start()
        # Check each line, because hostile content may control the process.
        for _ in range(len(wanted) + 1):
            value = _parsed(child.stdout.readline(MAX_LINE))
            if isinstance(value, bool):
                places.is_complete = value
                break
            if value is None or value[0] not in wanted:
                break
            places.found[value[0]] = value[1]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        feeder.join()
    return places


@contextmanager
def _running(child: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Kill the child process, and its git processes, when the `with` block ends."""
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):  # the process and its children have ended
            os.killpg(child.pid, signal.SIGKILL)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        child.wait()


def _process() -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Start the process that searches for paths and commits."""
    return _running(
        start_child(
            [sys.executable, "-I", "-c", _PROGRAM, _ROOT],
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            own_group=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    )


def _feed(child: subprocess.Popen[bytes], request: bytes) -> None:
    assert child.stdin is not None  # noqa: S101 - it was asked for
    with contextlib.suppress(OSError):  # the process has ended
        child.stdin.write(request)
        child.stdin.close()


def _parsed(line: bytes) -> tuple[str, ObjectPlace] | bool | None:
    """Parse a line that the search process wrote: the place of an object, or at the end whether all commits were
    searched.

    Return None if the line is invalid.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, bool):
        return value
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(text, str) for text in value):
        return None
    oid, path, commit = value
    if len(path) > MAX_PATH + 2 or not _OBJECT_ID.fullmatch(commit):
        return None
    return oid, ObjectPlace(path, commit)


def main() -> None:
    """Search for the paths and commits of the objects that a request on standard input names."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    request = json.load(sys.stdin)
    confine_to_reading(MEMORY_BYTES)
    repository = Repository(Path(request["git_dir"]), tips=request["tips"])
    try:
        places = locate_here(repository, request["wanted"], Deadline(), _send_place)
    except MemoryError:
        _send(False)
    else:
        _send(places.is_complete)


def _send_place(oid: str, place: ObjectPlace) -> None:
    _send([oid, place.path, place.commit])


def _send(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()

"""Confined processes that find out which files of a folder contain no token. The caller reads all other files."""

from __future__ import annotations

import contextlib
import os
import queue
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import scanner
from scanner.child_processes import start_child
from scanner.detection.documents import is_lfs_pointer
from scanner.detection.loading import confine_quick_search
from scanner.detection.patterns.token_formats import active_formats, written_formats
from scanner.detection.prefilter import CLEAN, plain_only

MAX_FILE_BYTES = 1 << 18
"""The survey does not examine larger files. The scanning process reads them itself."""
MEMORY_BYTES = 400 << 20
"""The maximum memory of one process, without mapped files (RLIMIT_DATA)."""
FILES_A_REQUEST = 512

CLEAN_FILE, NEEDS_LOOK = b"\0", b"\1"
_SIZE = struct.Struct("<I")
_BYTES = struct.Struct("<Q")
_ROOT = str(Path(scanner.__file__).parent.parent)
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from scanner.isolation.file_survey import main; main(sys.argv[2])"
)

_Child = subprocess.Popen[bytes]


class Survey:
    """The processes that examine the small files of one scan. Use `running` to create it."""

    def __init__(self, size: int, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._children: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        self._started: list[_Child] = []
        for _ in range(size):
            self._children.put(None)

    def clean(self, paths: Sequence[str]) -> tuple[list[bool], int]:
        """Return for each path whether the file certainly contains no token, and the total size of these files in
        bytes.
        """
        parts = [paths[start : start + FILES_A_REQUEST] for start in range(0, len(paths), FILES_A_REQUEST)]
        answers = list(self._pool.map(self._ask, parts))
        return [is_clean for some, _ in answers for is_clean in some], sum(size for _, size in answers)

    def close(self) -> None:
        """End the processes."""
        for child in self._started:
            child.kill()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            child.wait()

    def _ask(self, paths: Sequence[str]) -> tuple[list[bool], int]:
        child = self._children.get()
        try:
            child = child or self._start()
            return _answer(child, paths)
        except OSError:
            child = None  # the next request starts another process
            return [False] * len(paths), 0
        finally:
            self._children.put(child)

    def _start(self) -> _Child:
        child = start_child(
            [sys.executable, "-I", "-c", _PROGRAM, _ROOT, written_formats(active_formats())],
            env={"LC_ALL": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._started.append(child)
        return child


@contextmanager
def running(size: int, pool: ThreadPoolExecutor) -> Iterator[Survey]:
    """Yield a `Survey` with at most `size` processes, which end with the `with` block.

    The threads of the pool must live until the block ends.
    """
    survey = Survey(size, pool)
    try:
        yield survey
    finally:
        survey.close()


def _answer(child: _Child, paths: Sequence[str]) -> tuple[list[bool], int]:
    """Ask a process which files certainly contain no token. Return the answers and these files' total bytes."""
    assert child.stdin is not None  # noqa: S101 - it was asked for
    assert child.stdout is not None  # noqa: S101 - it was asked for
    request = os.fsencode("\0".join(paths))
    child.stdin.write(_SIZE.pack(len(request)) + request)
    child.stdin.flush()
    answer = child.stdout.read(len(paths) + _BYTES.size)
    if len(answer) < len(paths) + _BYTES.size:
        raise BrokenPipeError
    (size,) = _BYTES.unpack(answer[len(paths) :])
    return [byte == CLEAN_FILE[0] for byte in answer[: len(paths)]], size


def main(formats: str) -> None:
    """Read paths of files from standard input. For each file, write whether it certainly has no token.

    Args:
        formats: The token formats, as text that `parse_formats` can read.
    """
    confine_quick_search(formats, MEMORY_BYTES)
    _serve(sys.stdin.buffer, sys.stdout.buffer)


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    buffer = bytearray(MAX_FILE_BYTES + 1)
    while len(head := requests.read(_SIZE.size)) == _SIZE.size:
        paths = requests.read(_SIZE.unpack(head)[0]).split(b"\0")
        looks = bytearray()
        total = 0
        for path in paths:
            size = _clean_bytes(path, buffer)
            looks += NEEDS_LOOK if size is None else CLEAN_FILE
            total += size or 0
        answers.write(looks + _BYTES.pack(total))
        answers.flush()


def _clean_bytes(path: bytes, buffer: bytearray) -> int | None:
    """Return the file's size in bytes if it certainly has no token, otherwise None."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        size = 0
        with memoryview(buffer) as view:
            while size < len(buffer) and (count := os.readv(descriptor, [view[size:]])):
                size += count
    except OSError:
        return None
    finally:
        os.close(descriptor)
    content = bytes(buffer[:size])
    if size > MAX_FILE_BYTES or is_lfs_pointer(content) or plain_only(content) is not CLEAN:
        return None
    return size

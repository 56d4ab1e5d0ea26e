"""Reads git objects with several `git cat-file --batch` processes, and passes them to the detector."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import IO

from scanner.detection.containers.embedded import HEAD_BYTES, is_binary
from scanner.detection.containers.recognition import container_kind
from scanner.detection.detector import Detector, ScanResult
from scanner.detection.documents import is_lfs_pointer
from scanner.detection.git.pack_codec import ObjectType
from scanner.detection.history.git_processes import Deadline, GitError, killed_at, lines, started
from scanner.detection.history.history_results import HistoryShard
from scanner.detection.pieces import PIECE, scan_pieces
from scanner.detection.wide import wide_codec

BLOCK = 4 << 20
PIPE_BYTES = 1 << 20
MAX_RESTARTS = 200
FEED = 2048

MAX_SIZE_DIGITS = 19
"""An object whose size has this many digits or more is damaged."""
MAX_HEAD = 200
"""The maximum number of bytes in the header line before an object's content: id, type and size."""
COMMIT = 2
"""The number of the object type commit in an `ObjectList`."""

_TYPES: tuple[ObjectType, ...] = ("blob", "tree", "commit", "tag")


@dataclass(slots=True)
class ObjectList:
    """A list of git objects, in the order in which they are stored in the packs.

    Attributes:
        types: One byte per object: 0 for a blob, 1 for a tree, 2 for a commit, 3 for a tag.
        unreadable: The number of objects that were left out.
    """

    oids: bytearray = field(default_factory=bytearray)
    types: bytearray = field(default_factory=bytearray)
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    hash_bytes: int = 20
    unreadable: int = 0

    def __len__(self) -> int:
        return len(self.types)

    def oid(self, index: int) -> str:
        return self.oids[index * self.hash_bytes : (index + 1) * self.hash_bytes].hex()

    def type(self, index: int) -> ObjectType:
        return _TYPES[self.types[index]]

    def add(self, line: bytes, numbers: Mapping[bytes, int]) -> None:
        """Add the object that a line of `git cat-file --batch-check` describes, or count it as unreadable."""
        parts = line.split(b" ")
        if len(parts) == 3 and parts[1] in numbers and len(parts[2]) < MAX_SIZE_DIGITS:
            oid = bytes.fromhex(parts[0].decode("ascii"))
            self.hash_bytes = len(oid)
            self.oids += oid
            self.types.append(numbers[parts[1]])
            self.sizes.append(int(parts[2]))
        else:
            self.unreadable += 1

    def drop_largest(self, most: int) -> list[tuple[str, ObjectType]]:
        """Drop the largest objects so that at most `most` bytes remain. Return the dropped objects' ids and types."""
        if sum(self.sizes) <= most:
            return []
        order = sorted(range(len(self)), key=self.sizes.__getitem__)
        kept = bisect_right(list(accumulate(self.sizes[at] for at in order)), most)
        dropped = [(self.oid(at), self.type(at)) for at in order[kept:]]
        rest = sorted(order[:kept])
        self.oids = bytearray().join(self.oids[at * self.hash_bytes : (at + 1) * self.hash_bytes] for at in rest)
        self.types = bytearray(self.types[at] for at in rest)
        self.sizes = array("Q", (self.sizes[at] for at in rest))
        return dropped


def list_objects(
    git_dir: Path, deadline: Deadline, *, oids: Sequence[str] | None = None, only: int | None = None
) -> ObjectList:
    """Return the objects of a git directory, including those that no branch or tag reaches.

    Args:
        oids: The ids of the objects to list, or None for all objects.
        only: The type to list, as in `ObjectList.types`, or None for all types.

    Raises:
        GitError: git cannot list the objects.
    """
    listed = ObjectList()
    numbers = {name.encode(): number for number, name in enumerate(_TYPES) if only in (None, number)}
    for line in _descriptions(git_dir, deadline, oids):
        listed.add(line, numbers)
    return listed


def list_damaged_objects(git_dir: Path, deadline: Deadline, oids: Sequence[str]) -> ObjectList:
    """Return the objects with these ids. Objects that git cannot read are counted as unreadable.

    Raises:
        GitError: git is not installed, or the deadline has passed.
    """
    listed = ObjectList()
    numbers = {name.encode(): number for number, name in enumerate(_TYPES)}
    for _ in range(MAX_RESTARTS):
        described = 0
        try:
            for line in _descriptions(git_dir, deadline, oids):
                listed.add(line, numbers)
                described += 1
        except GitError:
            if deadline.is_over:
                raise
            listed.unreadable += 1
            oids = oids[described + 1 :]
        else:
            return listed
    listed.unreadable += len(oids)
    return listed


def _descriptions(git_dir: Path, deadline: Deadline, oids: Sequence[str] | None) -> Iterator[bytes]:
    arguments = ["cat-file", "--buffer", "--batch-check=%(objectname) %(objecttype) %(objectsize)"]
    arguments += ["--batch-all-objects", "--unordered"] if oids is None else []
    yield from lines(git_dir, arguments, deadline, stdin="".join(f"{oid}\n" for oid in oids or ()).encode())


def read_objects(
    git_dir: Path,
    listed: ObjectList,
    detector: Detector,
    *,
    readers: int,
    on_progress: Callable[[int, int], None],
    deadline: Deadline,
) -> HistoryShard:
    """Read and scan all listed objects with several git processes, and return the results.

    Args:
        on_progress: Called with the number of objects read so far, and the number of all.
    """
    parts = [_ShardReader(git_dir, listed, first, last, detector, deadline) for first, last in _bounds(listed, readers)]
    failures: list[BaseException] = []

    def work(part: _ShardReader) -> None:
        try:
            part.read()
        except BaseException as err:  # noqa: BLE001 - raised again by the thread that waits
            failures.append(err)
            deadline.cancel()

    threads = [threading.Thread(target=work, args=(part,), name="history-reader", daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)
            on_progress(sum(part.shard.objects for part in parts), len(listed))
    if failures:
        raise failures[0]
    total = HistoryShard()
    for part in parts:
        total.add(part.shard)
    return total


def _bounds(listed: ObjectList, readers: int) -> list[tuple[int, int]]:
    """Divide the objects into one range of indexes for each reader. All ranges have about the same total size."""
    bounds: list[tuple[int, int]] = []
    total, first, seen = sum(listed.sizes), 0, 0
    for index, size in enumerate(listed.sizes):
        seen += size + 64
        if seen * readers >= (len(bounds) + 1) * (total + 64 * len(listed)) or index + 1 == len(listed):
            bounds.append((first, index + 1))
            first = index + 1
    return [(low, high) for low, high in bounds if high > low]


class _ShardReader:
    """Reads the objects from index `first` up to index `last` (exclusive) into `shard`."""

    def __init__(
        self, git_dir: Path, listed: ObjectList, first: int, last: int, detector: Detector, deadline: Deadline
    ) -> None:
        self._git_dir, self._listed, self._detector, self._deadline = git_dir, listed, detector, deadline
        self._next, self._last = first, last
        self.shard = HistoryShard()

    def read(self) -> None:
        """Read all objects of this reader. Git is restarted after a damaged object."""
        restarts = 0
        while self._next < self._last and not self._deadline.is_over:
            self._read_until_exit()
            if self._next < self._last and not self._deadline.is_over:
                self.shard.note(self._listed.oid(self._next), self._listed.type(self._next), "object_damaged")
                self._next += 1
                restarts += 1
                if restarts > MAX_RESTARTS:
                    self.shard.unread["object_damaged"] += self._last - self._next
                    return
        if self._next < self._last:
            self.shard.unread[self._deadline.reason] += self._last - self._next

    def _read_until_exit(self) -> None:
        """Start git, and read objects until the last object is read or git exits."""
        arguments = ["cat-file", "--batch", "--buffer"]
        with started(self._git_dir, arguments) as child, killed_at(self._deadline, child):
            assert child.stdin is not None  # noqa: S101 - it was asked for
            assert child.stdout is not None  # noqa: S101 - it was asked for
            output = child.stdout.fileno()
            with contextlib.suppress(OSError):
                fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            feeder = threading.Thread(
                target=_feed, args=(child.stdin, self._listed, self._next, self._last), daemon=True
            )
            feeder.start()
            parser = _Parser(self._listed, self._next, self._last, self._detector, self.shard, _Blocks(output))
            while parser.index < self._last and not self._deadline.is_over:
                if not parser.step():
                    break
            child.kill()
            feeder.join()
            self._next = parser.index


def _feed(stdin: IO[bytes], listed: ObjectList, first: int, last: int) -> None:
    descriptor = stdin.fileno()
    with contextlib.suppress(OSError):
        for start in range(first, last, FEED):
            ids = "".join(f"{listed.oid(index)}\n" for index in range(start, min(start + FEED, last))).encode()
            view = memoryview(ids)
            while view:
                view = view[os.write(descriptor, view) :]
    with contextlib.suppress(OSError):
        stdin.close()


class _Blocks:
    """A reader of large blocks from git's output."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray(BLOCK)

    def read(self, size: int = 0) -> bytes:
        """Return the next `size` bytes of git's output. If `size` is 0, return BLOCK bytes."""
        size = size or BLOCK
        if size > len(self._buffer):
            self._buffer = bytearray(size)
        view, filled = memoryview(self._buffer), 0
        while filled < size:
            count = os.readv(self._descriptor, [view[filled:size]])
            if not count:
                break
            filled += count
        return bytes(view[:filled])


class _Parser:
    """Splits git's output into objects and scans them. `index` counts the objects."""

    def __init__(
        self, listed: ObjectList, first: int, last: int, detector: Detector, shard: HistoryShard, blocks: _Blocks
    ) -> None:
        self._listed, self._last, self._detector, self._shard, self._blocks = listed, last, detector, shard, blocks
        self.index = first
        self._data = b""

    def step(self) -> bool:
        """Read and scan one more block of git's output. Return False at the end of the output."""
        block = self._blocks.read()
        if not block:
            return False
        data = self._data + block if self._data else block
        suspects = self._detector.suspects(data)
        position, at = 0, 0
        listed, shard = self._listed, self._shard
        sizes, types = listed.sizes, listed.types
        find, size_of_data = data.find, len(data)
        while self.index < self._last:
            newline = find(b"\n", position, position + MAX_HEAD)
            if newline < 0:
                if size_of_data - position >= MAX_HEAD:
                    return False  # git's answer does not match the requested ids
                break
            size = sizes[self.index]
            if data[newline - 7 : newline] == b"missing":
                shard.note(listed.oid(self.index), listed.type(self.index), "object_missing")
                self.index += 1
                position = newline + 1
                continue
            start = newline + 1
            end = start + size
            if end >= size_of_data:
                if size > PIECE:
                    return self._large(data[start:], size)
                break
            at = bisect_left(suspects, start, at)
            is_special = types[self.index] == 0 and size > 3 and self._is_special(data, start, end)
            if is_special or (at < len(suspects) and suspects[at] < end):
                self._look_at(data[start:end])
            shard.objects += 1
            shard.bytes += size
            self.index += 1
            position = end + 1
        self._data = data[position:]
        return True

    def _is_special(self, data: bytes, start: int, end: int) -> bool:
        """Return whether a blob may be an archive, compressed or UTF-16."""
        if end - start <= 600:
            probe = data[start:end]
            if is_lfs_pointer(probe):
                self._shard.note(*self._object(), "lfs_pointer")
        else:
            # Text is an archive only if its beginning or end looks like one. In binary content, compressed data may
            # begin anywhere.
            probe = data[start : min(start + HEAD_BYTES, end)]
            probe = data[start:end] if is_binary(probe) else probe + data[end - 22 : end]
        return container_kind(probe) is not None or wide_codec(probe) is not None

    def _object(self) -> tuple[str, ObjectType]:
        return self._listed.oid(self.index), self._listed.type(self.index)

    def _look_at(self, content: bytes) -> None:
        result = self._detector.scan_bytes(content)
        if result is not None:
            oid, name = self._object()
            self._shard.take_content(oid, name, content, result)

    def _large(self, head: bytes, size: int) -> bool:
        """Scan an object of `size` bytes piece by piece. Return False if git's output ended."""
        left = size - len(head)

        def read(most: int) -> bytes:
            nonlocal left
            more = self._blocks.read(min(most, left)) if left else b""
            left -= len(more)
            return more

        pieces = scan_pieces(self._detector, head, read)
        if left:
            return False
        self._blocks.read(1)  # the newline after the content
        self._shard.take(*self._object(), ScanResult(tuple(pieces.candidates), pieces.unread, size))
        self._shard.objects += 1
        self._shard.bytes += size
        self.index += 1
        self._data = b""
        return True

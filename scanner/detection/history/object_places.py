"""Search of a git repository for the path of each object, and for the oldest commit that contains it."""

from __future__ import annotations

import io
import os
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, cast

from scanner.detection.history.git_processes import Deadline, GitError, killed_at, lines, started
from scanner.detection.history.git_repositories import Repository
from scanner.detection.history.history_reader import COMMIT, list_objects

MAX_TREES = 3_000_000
"""The maximum number of distinct trees that are read. Each takes about 100 bytes of memory."""
MAX_TREE_BYTES = 8 << 30
"""The maximum decompressed size of all trees and commits together."""
MAX_ONE_OBJECT = 32 << 20
"""The maximum size of one tree or commit in bytes. A larger object is skipped."""
MAX_DEPTH = 4_096
"""The maximum depth of nested folders, as in git (`core.maxTreeDepth`)."""
MAX_PATH = 4_096
"""The maximum number of characters of a path, as in Linux. The beginning of a longer path is cut off."""
MAX_RESTARTS = 20
"""The search for paths ends after git exited at this many damaged objects."""

MAX_ENTRIES_A_ROUND = 1_000_000
"""The maximum number of tree entries in memory. Each entry takes about 150 bytes."""

_COMMITS_A_ROUND = 512
_IDS_A_REQUEST = 512
"""The number of object ids in one request to git. With more, git and this process could wait for each other forever."""
MAX_HEAD = 200
"""The maximum number of bytes in the header line before an object's content: id, type and size."""

_CUT_OFF = b"(cut off)"
"""A marker for an object whose content git did not write completely. Compare it with `is`."""
_SUBMODULE = b"160000"
_FOLDER_MODE = b"40000 "
_TREE_MODES = (b"40000", b"040000")
_TREE = re.compile(rb"tree ([0-9a-f]{40}(?:[0-9a-f]{24})?)\n")


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """An object's path, and the oldest commit that contains the object. Each is None if not known.

    Bytes of the path that are not UTF-8 become surrogates (`surrogateescape`).
    """

    path: str | None
    commit: str | None


@dataclass(slots=True)
class ObjectPlaces:
    """Paths and commits of objects, by object id. `is_complete` says whether all commits were searched."""

    found: dict[str, ObjectPlace] = field(default_factory=dict)
    is_complete: bool = True


_Entry = tuple[bytes, bytes, bool]
"""An entry of a tree: its name, its object id, and whether it is a folder that was not read before."""

_NO_ENTRIES: Sequence[_Entry] = ()


class _Folder(NamedTuple):
    """A folder and its parent folder."""

    name: bytes
    parent: _Folder | None


def locate(
    repository: Repository,
    wanted: Collection[str],
    deadline: Deadline,
    on_found: Callable[[str, ObjectPlace], None] = lambda *_: None,
) -> ObjectPlaces:
    """Return the paths and commits of the blobs and trees with the given ids.

    Args:
        on_found: Called with an object's id, path and commit as soon as they are known.
    """
    walk = _Walk(wanted, len(next(iter(wanted), "")) // 2, on_found)
    git_dir = repository.git_dir
    with _Objects(git_dir, deadline) as objects:
        try:
            for commits in (_reached(repository, walk.places, deadline), _listed(git_dir, objects, deadline)):
                while not walk.is_done and (some := list(islice(commits, _COMMITS_A_ROUND))):
                    walk.visit(some, objects)
        except (_GaveUp, GitError):
            walk.places.is_complete = False
    return walk.places


class _GaveUp(Exception):
    """A limit or the deadline is reached, so the search for paths ends."""


def _reached(repository: Repository, places: ObjectPlaces, deadline: Deadline) -> Iterator[tuple[str, str]]:
    """Yield (commit id, tree id) of each commit on a branch or tag, parents first."""
    tips = set(repository.tips)
    if not tips:
        return
    arguments = ["rev-list", "--reverse", "--date-order", "--ignore-missing", "--stdin", "--format=%T"]
    asked = "".join(f"{oid}\n" for oid in sorted(tips)).encode("ascii")
    commit = ""
    try:
        for line in lines(repository.git_dir, arguments, deadline, stdin=asked):
            text = line.decode("ascii", "replace")
            if text.startswith("commit "):
                commit = text[7:]
            else:
                yield commit, text
    except GitError:
        # A parent commit may be missing, but `_listed` yields all commits. So the result is incomplete only if the time
        # is over.
        places.is_complete = places.is_complete and not deadline.is_over


def _listed(git_dir: Path, objects: _Objects, deadline: Deadline) -> Iterator[tuple[str, str]]:
    """Yield (commit id, tree id) of every commit in the repository, roughly oldest first."""
    listed = list_objects(git_dir, deadline, only=COMMIT)
    numbers = (number for number in range(len(listed) - 1, -1, -1) if listed.types[number] == COMMIT)
    while some := [listed.oid(number) for number in islice(numbers, _IDS_A_REQUEST)]:
        contents = zip(some, objects.read(some), strict=True)
        trees = [(oid, _TREE.match(content)) for oid, content in contents if content is not None]
        yield from ((oid, tree[1].decode("ascii")) for oid, tree in trees if tree)


class _Walk:
    """Searches the trees of commits for objects. Each tree is read once."""

    def __init__(self, wanted: Iterable[str], hash_bytes: int, on_found: Callable[[str, ObjectPlace], None]) -> None:
        self.places = ObjectPlaces()
        self._on_found = on_found
        self._missing = {bytes.fromhex(oid) for oid in wanted}
        self._seen: set[bytes] = set()
        self._read = 0
        self._is_useful = False
        # The last alternative (`.++`) matches the rest after a damaged entry. Without it, the search would take
        # quadratic time.
        self._entries = re.compile(rb"([0-7]{5,6}) ([^\0]++)\0(.{%d})|.++" % hash_bytes, re.DOTALL)
        self._ids = re.compile(rb"[0-7]{5,6} [^\0]++\0(.{%d})|.++" % hash_bytes, re.DOTALL)

    @property
    def is_done(self) -> bool:
        return not self._missing

    def visit(self, commits: Sequence[tuple[str, str]], objects: _Objects) -> None:
        """Search the trees of some commits, and record the path and commit of each found object."""
        roots: dict[bytes, str] = {}
        for commit, tree in commits:
            oid = bytes.fromhex(tree)
            if oid not in self._seen:
                roots.setdefault(oid, commit)
        self._is_useful = False
        fresh, stop = self._new_trees(roots, objects)
        self._place_all(roots, fresh)
        self._seen.update(fresh)
        if stop is not None:
            raise stop

    def _new_trees(
        self, roots: Iterable[bytes], objects: _Objects
    ) -> tuple[dict[bytes, Sequence[_Entry]], Exception | None]:
        """Read the unread trees below `roots`. Also return the error that ended the reading."""
        fresh = dict.fromkeys(roots, _NO_ENTRIES)
        level, kept = list(fresh), 0
        try:
            for _ in range(MAX_DEPTH):
                following: list[bytes] = []
                for tree, content in zip(level, objects.read([oid.hex() for oid in level]), strict=True):
                    self._read += 1
                    if self._read > MAX_TREES or kept > MAX_ENTRIES_A_ROUND:
                        return fresh, _GaveUp()
                    entries = self._entries_of(content)
                    if not entries:
                        continue
                    fresh[tree] = entries
                    kept += len(entries)
                    for _, oid, is_folder in entries:
                        if is_folder and oid not in fresh:
                            fresh[oid] = _NO_ENTRIES
                            following.append(oid)
                level = following
                if not level:
                    return fresh, None
        except (_GaveUp, GitError, MemoryError) as stop:
            return fresh, stop
        self.places.is_complete = False
        return fresh, None

    def _entries_of(self, content: bytes | None) -> list[_Entry]:
        """Return the entries of a tree that are folders to read or objects to locate."""
        if content is None:
            self.places.is_complete = False
            return []
        seen, missing = self._seen, self._missing
        ids = self._ids.findall(content)
        if ids and not ids[-1]:
            self.places.is_complete = False
        if missing.isdisjoint(ids):
            # Most trees have neither an object to locate nor a subfolder. This test is faster than parsing the tree.
            if _FOLDER_MODE not in content:
                return []
            return [
                (name, oid, True)
                for mode, name, oid in self._entries.findall(content)
                if mode in _TREE_MODES and oid not in seen
            ]
        self._is_useful = True
        return [
            (name, oid, mode in _TREE_MODES and oid not in seen)
            for mode, name, oid in self._entries.findall(content)
            if (mode in _TREE_MODES and oid not in seen) or (oid in missing and mode != _SUBMODULE)
        ]

    def _place_all(self, roots: dict[bytes, str], fresh: dict[bytes, Sequence[_Entry]]) -> None:
        """Record the paths of the objects to locate in the trees that were just read."""
        missing = self._missing
        if not self._is_useful and missing.isdisjoint(fresh):
            return
        visited: set[bytes] = set()
        for root, commit in roots.items():
            if root in visited:
                continue
            visited.add(root)
            self._place(root, None, commit)
            waiting: deque[tuple[bytes, _Folder | None]] = deque([(root, None)])
            while waiting and missing:
                tree, folder = waiting.popleft()
                for name, oid, _ in fresh[tree]:
                    here = _Folder(name, folder)
                    self._place(oid, here, commit)
                    if oid in fresh and oid not in visited:
                        visited.add(oid)
                        waiting.append((oid, here))

    def _place(self, oid: bytes, folder: _Folder | None, commit: str) -> None:
        if oid in self._missing:
            self._missing.discard(oid)
            place = self.places.found[oid.hex()] = ObjectPlace(_path(folder), commit)
            self._on_found(oid.hex(), place)


def _path(folder: _Folder | None) -> str:
    """Return the path of a file or folder, or only its end if it is too long."""
    names: list[str] = []
    length = 0
    while folder is not None:
        names.append(os.fsdecode(folder.name))
        length += len(names[-1]) + 1
        if length > MAX_PATH:
            names[-1] = names[-1][length - MAX_PATH :]
            names.append("…")
            break
        folder = folder.parent
    return "/".join(reversed(names))


class _Objects:
    """Reads git objects by their ids from a `git cat-file --batch` process."""

    def __init__(self, git_dir: Path, deadline: Deadline) -> None:
        self._git_dir, self._deadline = git_dir, deadline
        self._stack = ExitStack()
        self._restarts = -1
        self._bytes = 0
        self._input: IO[bytes] | None = None
        self._output: io.BufferedReader | None = None

    def __enter__(self) -> _Objects:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, oids: Sequence[str]) -> Iterator[bytes | None]:
        """Yield the content of each object, or None if the object cannot be read."""
        for start in range(0, len(oids), _IDS_A_REQUEST):
            asked = oids[start : start + _IDS_A_REQUEST]
            while asked:
                if self._output is None:
                    self._start()
                answered = 0
                for content in self._answers(asked):
                    answered += 1
                    yield content
                asked = asked[answered:]
                if asked:  # git ended while it read the first object in `asked`
                    self._output = None
                    yield None
                    asked = asked[1:]

    def _start(self) -> None:
        self._restarts += 1
        self._stack.close()
        if self._restarts > MAX_RESTARTS or self._deadline.is_over:
            raise _GaveUp
        child = self._stack.enter_context(started(self._git_dir, ["cat-file", "--batch"]))
        self._stack.enter_context(killed_at(self._deadline, child))
        raw = cast(io.RawIOBase, child.stdout)  # an unbuffered pipe is a RawIOBase
        self._input, self._output = child.stdin, io.BufferedReader(raw, 1 << 18)
        self._stack.callback(self._output.close)

    def _answers(self, oids: Sequence[str]) -> Iterator[bytes | None]:
        """Yield the contents of the objects until git exits, with None for an unreadable object."""
        assert self._input is not None  # noqa: S101 - it was started
        assert self._output is not None  # noqa: S101 - it was started
        try:
            self._input.write("".join(f"{oid}\n" for oid in oids).encode())
        except BrokenPipeError:
            return
        for _ in oids:
            head = self._output.readline(MAX_HEAD).split()
            if len(head) != 3:
                if not head or head[-1] not in (b"missing", b"ambiguous"):
                    return
                yield None
                continue
            size = int(head[2])
            self._bytes += size
            if self._bytes > MAX_TREE_BYTES:
                raise _GaveUp
            content = self._content(size)
            if content is _CUT_OFF:
                return
            yield content

    def _content(self, size: int) -> bytes | None:
        """Return an object's content, None if it is too large, or `_CUT_OFF` if it is truncated."""
        assert self._output is not None  # noqa: S101 - it was started
        if size > MAX_ONE_OBJECT:
            left = size + 1
            while left and (part := self._output.read(min(left, 1 << 20))):
                left -= len(part)
            return _CUT_OFF if left else None
        content = self._output.read(size + 1)
        return content[:-1] if len(content) == size + 1 else _CUT_OFF

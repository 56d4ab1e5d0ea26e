"""The refs (branches, tags and others) of an untrusted repository, and the names of refs that may contain a token."""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import scanner
from scanner.child_processes import start_child
from scanner.detection.git import git_formats
from scanner.detection.history.git_processes import Deadline, killed_at
from scanner.detection.loading import confine_quick_search
from scanner.detection.patterns.token_formats import active_formats, written_formats
from scanner.detection.prefilter import CLEAN, plain_only

FEW_REFS, FEW_BYTES = 2_000, 256 << 10
"""The maximum number of loose refs, and of bytes in `packed-refs`, that are read in this process."""
MAX_LOOSE_REFS = 5_000
"""The maximum number of loose refs (refs that are stored in one file each) that are opened."""
MAX_REFS = 1_000_000
MAX_TIPS = 25_000
"""The maximum number of commits that are passed to git because a branch or tag points to them."""
MAX_NAMES = 5_000
"""The maximum number of names of branches and tags that are scanned one by one."""
MAX_LOOSE_REF = 4096
"""The maximum number of bytes to read from the file of a loose ref."""
MAX_REF_FOLDERS = 200_000
MAX_PACKED_REFS = 64 << 20
"""The maximum number of bytes of `packed-refs`, which are held in memory."""

MEMORY_BYTES = 400 << 20
"""The memory limit (RLIMIT_DATA) of the process that reads the refs."""
READ_SECONDS = 120.0
MAX_ANSWER = 64 << 20
_NAMES_AT_ONCE = 1_000

_ROOT = str(Path(scanner.__file__).parent.parent)
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "from scanner.detection.history import repository_refs as r; r.main(sys.argv[2], sys.argv[3])"
)


@dataclass(slots=True)
class Refs:
    """The refs (branches, tags and others) of a repository. `names` has only those that may contain a token."""

    tips: list[str] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


def refs_of(common: Path) -> Refs:
    """Return the refs (branches and tags) in a git directory. A confined process reads them if there are many."""
    if _has_few(common):
        return read_refs(common)
    try:
        child = start_child(
            [sys.executable, "-I", "-c", _PROGRAM, _ROOT, str(common.absolute()), written_formats(active_formats())],
            env={"LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return Refs(unread=Counter({"refs_unreadable": 1}))  # no process can be started
    with child, killed_at(Deadline(READ_SECONDS), child):
        assert child.stdout is not None  # noqa: S101 - it was asked for
        answer = child.stdout.read(MAX_ANSWER)
        child.kill()
    return _parsed(answer)


def read_refs(common: Path) -> Refs:
    """Return the refs (branches and tags) in a git directory, without those in symbolic links."""
    found = Refs()
    tips: dict[str, None] = {}
    names = _Names()
    for number, (name, oid) in enumerate(_refs(common, found.unread)):
        if number >= MAX_REFS:
            found.unread["refs_over_limit"] = 1
            break
        if oid and len(tips) < MAX_TIPS:
            tips[oid.decode("ascii")] = None
        names.add(name)
    found.tips = list(tips)
    found.names, is_cut = names.suspicious()
    if is_cut:
        found.unread["refs_over_limit"] = 1
    found.unread = +found.unread
    return found


class _Names:
    """A collection of the names of refs that may contain a token."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._with_tokens: list[bytes] = []
        self._others: list[bytes] = []

    def add(self, name: bytes) -> None:
        self._waiting.append(name)
        if len(self._waiting) >= _NAMES_AT_ONCE:
            self._sort()

    def suspicious(self) -> tuple[list[bytes], bool]:
        """Return at most MAX_NAMES names of refs that may contain a token, and whether there are more."""
        self._sort()
        found = self._with_tokens + self._others
        return found[:MAX_NAMES], len(found) > MAX_NAMES

    def _sort(self) -> None:
        names, self._waiting = self._waiting, []
        if plain_only(b"\n".join(names)) is CLEAN:
            return
        for name in names:
            verdict = plain_only(name)
            if verdict is not CLEAN:
                kept = self._with_tokens if verdict.findings else self._others
                if len(kept) <= MAX_NAMES:
                    kept.append(name)


def _has_few(common: Path) -> bool:
    try:
        if (common / "packed-refs").lstat().st_size > FEW_BYTES:
            return False
    except OSError:
        pass  # there are no packed refs
    names = _loose_names(os.fsencode(common), Counter())
    return next(itertools.islice(names, FEW_REFS, None), None) is None


def _refs(common: Path, unread: Counter[str]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and object id of each ref. An unknown id is empty."""
    unread["refs_unreadable"] += (common / "reftable").is_dir()
    root = os.fsencode(common)
    for number, name in enumerate(_loose_names(root, unread)):
        if number >= MAX_LOOSE_REFS:
            unread["refs_over_limit"] = 1
        yield name, _loose_id(os.path.join(root, name)) if number < MAX_LOOSE_REFS else b""
    packed = file_start(common / "packed-refs", MAX_PACKED_REFS + 1)
    unread["refs_over_limit"] |= len(packed) > MAX_PACKED_REFS
    unread["refs_unreadable"] += not packed and os.path.lexists(common / "packed-refs")
    at = 0
    while at < len(packed):
        end = packed.find(b"\n", at)
        end = end if end >= 0 else len(packed)
        oid, _, name = packed[at:end].partition(b" ")
        at = end + 1
        if name and git_formats.OBJECT_ID.fullmatch(oid):
            yield name, oid


def _loose_id(path: bytes) -> bytes:
    """Return the object id in a ref's file, or empty bytes if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        oid = os.read(descriptor, MAX_LOOSE_REF).partition(b"\n")[0].strip()
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return oid if git_formats.OBJECT_ID.fullmatch(oid) else b""


def _loose_names(root: bytes, unread: Counter[str]) -> Iterator[bytes]:
    """Yield the names of about MAX_REFS refs that are stored in files of their own."""
    folders = [b"refs"]
    entered = count = 0
    while folders and count <= MAX_REFS:
        folder = folders.pop() + b"/"
        entered += 1
        if entered > MAX_REF_FOLDERS:
            unread["refs_over_limit"] = 1
            break
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                for entry in itertools.islice(entries, MAX_REFS + 1):
                    if entry.is_file(follow_symlinks=False):
                        count += 1
                        yield folder + entry.name
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(folder + entry.name)
        except OSError:
            unread["refs_unreadable"] += 1


def file_start(path: Path, size: int) -> bytes:
    """Return the first `size` bytes of a regular file, or b"" if the file cannot be read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read(size) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError:
        return b""


_HEX_IDS = re.compile(r"(?:[0-9a-f]{40}(?:[0-9a-f]{24})?\n)*+")
_REASON = re.compile(r"refs_[a-z_]{1,30}")


def main(common: str, formats: str) -> None:
    """Read the refs (branches and tags) of a git directory, and write them to standard output."""
    confine_quick_search(formats, MEMORY_BYTES)
    try:
        refs = read_refs(Path(common))
    except MemoryError:
        refs = Refs(unread=Counter({"refs_over_limit": 1}))
    tips = "".join(f"{oid}\n" for oid in refs.tips)
    names = [name.decode("latin-1") for name in refs.names]
    json.dump({"tips": tips, "names": names, "unread": refs.unread}, sys.stdout)


def _parsed(answer: bytes) -> Refs:
    """Parse and check the refs in the untrusted answer of the child process."""
    unreadable = Refs(unread=Counter({"refs_unreadable": 1}))
    try:
        value = json.loads(answer)
        tips, names, unread = value["tips"], value["names"], value["unread"]
        if not _HEX_IDS.fullmatch(tips) or len(names) > MAX_NAMES:
            return unreadable
        found = Refs(tips.split("\n")[:-1][:MAX_TIPS], [name.encode("latin-1") for name in names])
        for reason, count in unread.items():
            if _REASON.fullmatch(reason):
                found.unread[reason] = int(count)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return unreadable
    return found

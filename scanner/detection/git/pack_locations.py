"""Search for the path of an object in a git pack, and for the commit that introduced the object."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from scanner.detection.git.packs import PackObject

MAX_DEPTH = 4_096
"""The maximum depth of nested folders, as in git (`core.maxTreeDepth`)."""
MAX_ENTRIES = 2_000_000
"""The maximum number of tree entries that are searched for one pack. Searching this many takes some seconds."""
MAX_PARENTS = 64
"""The maximum number of parents of one commit that are read. The largest merge in Linux has 66 parents."""
MAX_PATH = 4_096
"""The maximum number of characters of a path, as in Linux. The beginning of a longer path is cut off."""

_TREE_MODE, _SUBMODULE_MODE = b"40000", b"160000"
_DATE = re.compile(rb"^committer [^\n]*> (\d{1,11}) [+-]\d{4}$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Location:
    """The path of an object, the commit that introduced it, and the time of this commit.

    Bytes of the path that are not UTF-8 become surrogates (`surrogateescape`).
    """

    path: str
    commit: str
    committed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Commit:
    """A git commit. `tree` and `parents` are object ids."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    committed_at: datetime | None


class _Folder(NamedTuple):
    """A folder and its parent folder."""

    name: str
    parent: _Folder | None
    depth: int


def locate(objects: Sequence[PackObject], wanted: Collection[str]) -> dict[str, Location]:
    """Return the path of each wanted blob or tree, and the first commit that contains it, by object id."""
    trees = {item.oid: item.content for item in objects if item.type == "tree"}
    missing, found = set(wanted), dict[str, Location]()
    seen: set[str] = set()
    entries = 0
    for commit in commits_oldest_first(objects):
        if not missing:
            break
        stack = [(commit.tree, _Folder("", None, 0))] if commit.tree in trees and commit.tree not in seen else []
        seen.add(commit.tree)
        if commit.tree in missing:
            missing.discard(commit.tree)
            found[commit.tree] = Location("", commit.oid, commit.committed_at)
        while stack and missing:
            oid, folder = stack.pop()
            for mode, name, child in tree_entries(trees[oid], len(oid) // 2):
                entries += 1
                if entries > MAX_ENTRIES:
                    return found
                if child in missing:
                    missing.discard(child)
                    found[child] = Location(_path(name, folder), commit.oid, commit.committed_at)
                is_folder = mode.lstrip(b"0") == _TREE_MODE  # old tools wrote 040000, not 40000
                if is_folder and child in trees and child not in seen and folder.depth < MAX_DEPTH:
                    seen.add(child)
                    stack.append((child, _Folder(name, folder, folder.depth + 1)))
    return found


def _path(name: str, folder: _Folder | None) -> str:
    """Return the path of a file, or only its end if it is too long."""
    names = [name[-MAX_PATH:]]
    length = len(names[0])
    while folder is not None and folder.parent is not None:
        length += len(folder.name) + 1
        if length > MAX_PATH:
            names.append("…")
            break
        names.append(folder.name)
        folder = folder.parent
    return "/".join(reversed(names))


def tree_entries(content: bytes, hash_size: int = 20) -> Iterator[tuple[bytes, str, str]]:
    """Yield mode, name and object id of each entry of a git tree, except submodules. Stop at a damaged entry."""
    position, end = 0, len(content)
    while position < end:
        space = content.find(b" ", position, position + 8)
        null = content.find(b"\0", space)
        if space < 0 or null < 0 or null + 1 + hash_size > end:
            return
        mode, name = content[position:space], content[space + 1 : null]
        position = null + 1 + hash_size
        if mode != _SUBMODULE_MODE:
            yield mode, name.decode("utf-8", "surrogateescape"), content[null + 1 : position].hex()


def commits_oldest_first(objects: Sequence[PackObject]) -> list[Commit]:
    """Return the pack's commits, each after its parents."""
    commits = {item.oid: parsed for item in objects if item.type == "commit" and (parsed := parse_commit(item))}
    ordered: list[Commit] = []
    done: set[str] = set()
    for first in reversed(commits.values()):
        stack = [(first, False)]
        while stack:
            commit, parents_done = stack.pop()
            if parents_done:
                ordered.append(commit)
            elif commit.oid not in done:
                done.add(commit.oid)
                stack.append((commit, True))
                stack.extend((commits[oid], False) for oid in commit.parents if oid in commits and oid not in done)
    return ordered


def parse_commit(item: PackObject) -> Commit | None:
    """Return the parsed commit, or None if it names no tree."""
    head = item.content.partition(b"\n\n")[0]
    lines = head.split(b"\n", 200)
    tree = next((line[5:].decode("ascii", "replace") for line in lines if line.startswith(b"tree ")), None)
    if tree is None:
        return None
    parents = tuple(line[7:].decode("ascii", "replace") for line in lines if line.startswith(b"parent "))[:MAX_PARENTS]
    found = _DATE.search(head)
    return Commit(item.oid, tree, parents, _time(found[1]) if found else None)


def _time(seconds: bytes) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (OverflowError, ValueError, OSError):
        return None

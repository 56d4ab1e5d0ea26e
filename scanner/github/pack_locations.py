"""Where in a repository a blob of a pack stands: its path, and the commit that brought it. Asked for hits only."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from scanner.github.packs import PackObject

DEEPEST_FOLDER = 400
MOST_ENTRIES = 5_000_000

_TREE_MODE, _SUBMODULE_MODE = b"40000", b"160000"
_DATE = re.compile(rb"^committer [^\n]*> (\d{1,11}) [+-]\d{4}$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Location:
    """Path (surrogates for what is not UTF-8), commit, and when that was committed, by its own account."""

    path: str
    commit: str
    committed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Commit:
    """The head of a commit object."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    committed_at: datetime | None


def locate(objects: Sequence[PackObject], wanted: Collection[str]) -> dict[str, Location]:
    """For those of the wanted blobs and trees that a commit of the pack reaches: where they came in first.

    Commits are walked parents first, and every tree of the pack once: what a tree holds was brought by the first commit
    that shows it.
    """
    trees = {item.oid: item.content for item in objects if item.type == "tree"}
    missing, found = set(wanted), dict[str, Location]()
    seen: set[str] = set()
    entries = 0
    for commit in commits_oldest_first(objects):
        stack = [(commit.tree, "", 0)]
        while stack and missing:
            oid, prefix, depth = stack.pop()
            if oid in seen or oid not in trees:
                continue
            seen.add(oid)
            if oid in missing:
                missing.discard(oid)
                found[oid] = Location(prefix, commit.oid, commit.committed_at)
            for mode, name, child in tree_entries(trees[oid], len(oid) // 2):
                entries += 1
                if entries > MOST_ENTRIES:
                    return found
                path = f"{prefix}/{name}" if prefix else name
                if mode.lstrip(b"0") == _TREE_MODE:  # old tools wrote 040000
                    if depth < DEEPEST_FOLDER:
                        stack.append((child, path, depth + 1))
                elif child in missing:
                    missing.discard(child)
                    found[child] = Location(path, commit.oid, commit.committed_at)
        if not missing:
            break
    return found


def tree_entries(content: bytes, hash_size: int = 20) -> Iterator[tuple[bytes, str, str]]:
    """Mode, name and object id of each entry; submodules, whose commits lie elsewhere, left out. Stops at damage."""
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
    """The pack's commits, each after its parents."""
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
    """The head of a commit; None when it has no tree."""
    head = item.content.partition(b"\n\n")[0]
    lines = head.split(b"\n", 200)
    tree = next((line[5:].decode("ascii", "replace") for line in lines if line.startswith(b"tree ")), None)
    if tree is None:
        return None
    parents = tuple(line[7:].decode("ascii", "replace") for line in lines if line.startswith(b"parent "))
    found = _DATE.search(head)
    return Commit(item.oid, tree, parents, _time(found[1]) if found else None)


def _time(seconds: bytes) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (OverflowError, ValueError, OSError):
        return None

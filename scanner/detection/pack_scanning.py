"""Scans the objects of one pack and finds where in the repository those stand that hold something.

The same for both ways of scanning a pack: in the process that received it, where candidates come out, and in a reader,
where raw findings come out. How an object is looked at is the caller's to say. Knows no processes and no network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from scanner.detection.candidate_limits import MAX_CANDIDATES, OVER_LIMIT, CandidateLimits
from scanner.detection.documents import is_lfs_pointer
from scanner.detection.findings import Finding
from scanner.detection.pack_locations import Location, locate, parse_commit, tree_entries
from scanner.detection.packs import OBJECT_COST, ObjectType, PackLimits, PackObject, PackReading

T = TypeVar("T")

OBJECT_NAME = "document"
"""What an object is called in the way through containers: its path is not known while it is read."""
MAX_CROWD = 64
"""Findings of one object. Those of an object with more are kept last, so that a flood hides no leak beside it."""
MAX_NOT_READ = 100
"""Objects of one pack that are named as not read; the others are counted."""
POSTPONED_BYTES = 48 << 20
"""Of objects that have to be opened, kept until all others were looked at. Beyond it they are opened at once."""
KEPT_BYTES = 64 << 20
"""Of the trees and commits of one pack, kept to find paths in."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What one object holds. `content_digest`: SHA-256 in hex where something of it was not read.

    `is_deferred`: another reader reads the object later, so its place is looked up as well. `is_postponed`: the object
    has to be opened.
    """

    found: Sequence[T] = ()
    unread: Mapping[str, int] = field(default_factory=dict)
    content_digest: str = ""
    is_deferred: bool = False
    is_postponed: bool = False


@dataclass(slots=True)
class PackHit(Generic[T]):
    """An object that holds something."""

    oid: str
    type: ObjectType
    found: list[T]


@dataclass(frozen=True, slots=True)
class UnreadPackObject:
    """An object of which something was not read. `oid` is empty for the pack itself; `digest` is SHA-256 in hex."""

    oid: str
    type: ObjectType
    reasons: tuple[str, ...]
    digest: str
    size: int


@dataclass(slots=True)
class PackScan(Generic[T]):
    """What the objects of a pack hold, those with few findings first.

    `unread` counts what was not read, by reason. `reached` are the wanted objects that the pack holds.
    `is_all_located`: a hit without a location stands in no tree of the pack. `is_over_limit`: asking for less would
    have brought more; `is_cut_off`: the pack broke off; `is_damaged`: it is corrupt, which it may have become on its
    way.
    """

    hits: list[PackHit[T]] = field(default_factory=list)
    locations: dict[str, Location] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    not_read: list[UnreadPackObject] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    objects: int = 0
    bytes: int = 0
    is_all_located: bool = True
    is_over_limit: bool = False
    is_cut_off: bool = False
    is_damaged: bool = False


def scan_objects(
    pack: PackReading,
    look: Callable[[PackObject, bytes], Look[T] | None],
    key: Callable[[T], Hashable],
    wants: Collection[str],
    open_object: Callable[[PackObject, bytes], Look[T] | None] | None = None,
) -> PackScan[T]:
    """Look at every object as it is made, then locate those that hold something.

    Args:
        pack: The pack, of which no object was taken yet.
        look: Returns what an object holds, None for nothing; is given the names in a tree, and the content of others.
        key: Returns the same for all findings of one token.
        wants: Ids of objects of which the caller wants to know whether the pack holds them.
        open_object: Does the same for objects that `look` wants to be opened, after all others were looked at, so that
            none of them hides what lies in plain.
    """
    scanner = _Scanner[T](key, wants)
    postponed: list[tuple[PackObject, bytes]] = []
    room = POSTPONED_BYTES
    for item in pack:
        content = _names(item) if item.type == "tree" else item.content
        scanner.begin(item, content)
        seen = look(item, content)
        if seen is not None and seen.is_postponed and open_object is not None:
            if len(content) <= room:
                room -= len(content) + OBJECT_COST
                postponed.append((item, content))
                continue
            seen = open_object(item, content)
        if seen is not None:
            scanner.add(item, seen, len(content))
    postponed.reverse()
    while postponed and open_object is not None:
        item, content = postponed.pop()
        if (seen := open_object(item, content)) is not None:
            scanner.add(item, seen, len(content))
    return scanner.close(pack)


class _Scanner(Generic[T]):
    """Collects what the objects of a pack hold."""

    def __init__(self, key: Callable[[T], Hashable], wants: Collection[str]) -> None:
        self._key, self._wants = key, wants
        self._scan = PackScan[T]()
        self._limits = CandidateLimits()
        self._crowded: list[PackHit[T]] = []
        self._room = MAX_CANDIDATES
        self._wanted: set[str] = set()
        self._kept: list[PackObject] = []
        self._kept_bytes = 0

    def begin(self, item: PackObject, content: bytes) -> None:
        """Count an object, and keep it if paths are found in it."""
        scan = self._scan
        scan.objects += 1
        scan.bytes += len(content)
        if item.oid in self._wants:
            scan.reached.add(item.oid)
        if item.type in ("commit", "tree"):
            self._kept_bytes += len(item.content)
            if self._kept_bytes <= KEPT_BYTES:
                self._kept.append(item)
        if item.type == "blob" and is_lfs_pointer(content):
            scan.unread["lfs_pointer"] += 1

    def add(self, item: PackObject, seen: Look[T], size: int) -> None:
        """Add what an object of this size holds. Large numbers of findings are added last."""
        scan = self._scan
        self._wanted.add(item.oid)
        if item.type == "commit" and (commit := parse_commit(item)):
            scan.locations[item.oid] = Location("", item.oid, commit.committed_at)
        scan.unread.update(seen.unread)
        if seen.content_digest and len(scan.not_read) < MAX_NOT_READ:
            reasons = tuple(sorted(seen.unread))
            scan.not_read.append(UnreadPackObject(item.oid, item.type, reasons, seen.content_digest, size))
        if len(seen.found) > MAX_CROWD:
            self._crowded.append(PackHit(item.oid, item.type, list(seen.found[: self._room])))
            scan.unread[OVER_LIMIT] += max(len(seen.found) - self._room, 0)
            self._room -= len(self._crowded[-1].found)
        elif taken := self._admitted(seen.found):
            scan.hits.append(PackHit(item.oid, item.type, taken))

    def _admitted(self, found: Sequence[T]) -> list[T]:
        return [one for one in found if self._limits.admits(self._key(one))]

    def close(self, pack: PackReading) -> PackScan[T]:
        """Locate what was found, and return all."""
        scan = self._scan
        for hit in self._crowded:
            hit.found = self._admitted(hit.found)
            if hit.found:
                scan.hits.append(hit)
        scan.locations.update(locate(self._kept, self._wanted - scan.locations.keys()))
        scan.is_all_located = self._kept_bytes <= KEPT_BYTES
        scan.unread.update(self._limits.over)
        scan.unread.update(pack.unread)
        scan.unread = +scan.unread
        scan.is_over_limit, scan.is_damaged = pack.is_over_limit, pack.is_damaged
        scan.is_cut_off = bool(pack.unread["pack_truncated"])
        return scan


def _names(tree: PackObject) -> bytes:
    names = (name for _, name, _ in tree_entries(tree.content, len(tree.oid) // 2))
    return "\n".join(names).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class PackRequest:
    """How a reader is to scan a pack.

    `seconds`: processor time. `opens`: False to find only what lies in plain, and to send back all that has to be
    opened.
    """

    limits: PackLimits
    hash_name: str
    wants: tuple[str, ...]
    seconds: float
    opens: bool = True


@dataclass(frozen=True, slots=True)
class DeferredObject:
    """An object that has to be read alone."""

    oid: str
    type: ObjectType
    content: bytes


@dataclass(frozen=True, slots=True)
class PackAnswer:
    """What a reader found in a pack. `failure`: why it found nothing, empty if it did its work."""

    scan: PackScan[Finding]
    deferred: tuple[DeferredObject, ...] = ()
    seconds: float = 0.0
    failure: str = ""

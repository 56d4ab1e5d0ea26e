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
from scanner.detection.packs import ObjectType, PackLimits, PackObject, PackReading

T = TypeVar("T")

OBJECT_NAME = "document"
"""What an object is called in the way through containers: its path is not known while it is read."""
MAX_CROWD = 64
"""Findings of one object. Those of an object with more are kept last, so that a flood hides no leak beside it."""
MAX_NOT_READ = 100
"""Objects of one pack that are named as not read; the others are counted."""
KEPT_BYTES = 64 << 20
"""Of the trees and commits of one pack, kept to find paths in."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What one object holds. `content_digest`: SHA-256 in hex where something of it was not read.

    `is_deferred`: the object is read later, so its place is looked up as well.
    """

    found: Sequence[T] = ()
    unread: Mapping[str, int] = field(default_factory=dict)
    content_digest: str = ""
    is_deferred: bool = False


@dataclass(slots=True)
class PackHit(Generic[T]):
    """An object that holds something."""

    oid: str
    type: ObjectType
    found: list[T]


@dataclass(frozen=True, slots=True)
class UnreadObject:
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
    not_read: list[UnreadObject] = field(default_factory=list)
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
) -> PackScan[T]:
    """Look at every object as it is made, then locate those that hold something.

    Args:
        pack: The pack, of which no object was taken yet.
        look: Returns what an object holds, None for nothing; is given the names in a tree, and the content of others.
        key: Returns the same for all findings of one token.
        wants: Ids of objects of which the caller wants to know whether the pack holds them.
    """
    scan = PackScan[T]()
    limits = CandidateLimits()
    crowded: list[PackHit[T]] = []
    room = MAX_CANDIDATES
    wanted: set[str] = set()
    kept: list[PackObject] = []
    kept_bytes = 0
    for item in pack:
        content = _names(item) if item.type == "tree" else item.content
        seen = look(item, content)
        scan.objects += 1
        scan.bytes += len(content)
        if item.oid in wants:
            scan.reached.add(item.oid)
        if item.type in ("commit", "tree"):
            kept_bytes += len(item.content)
            if kept_bytes <= KEPT_BYTES:
                kept.append(item)
        if item.type == "blob" and is_lfs_pointer(content):
            scan.unread["lfs_pointer"] += 1
        if seen is None:
            continue
        wanted.add(item.oid)
        if item.type == "commit" and (commit := parse_commit(item)):
            scan.locations[item.oid] = Location("", item.oid, commit.committed_at)
        _note_unread(scan, item, seen, len(content))
        if len(seen.found) > MAX_CROWD:
            crowded.append(PackHit(item.oid, item.type, list(seen.found[:room])))
            scan.unread[OVER_LIMIT] += max(len(seen.found) - room, 0)
            room -= len(crowded[-1].found)
        elif taken := [found for found in seen.found if limits.admits(key(found))]:
            scan.hits.append(PackHit(item.oid, item.type, taken))
    for hit in crowded:
        hit.found = [found for found in hit.found if limits.admits(key(found))]
        if hit.found:
            scan.hits.append(hit)
    scan.locations.update(locate(kept, wanted - scan.locations.keys()))
    scan.is_all_located = kept_bytes <= KEPT_BYTES
    scan.unread.update(limits.over)
    _close(scan, pack)
    return scan


def _names(tree: PackObject) -> bytes:
    names = (name for _, name, _ in tree_entries(tree.content, len(tree.oid) // 2))
    return "\n".join(names).encode("utf-8", "surrogateescape")


def _note_unread(scan: PackScan[T], item: PackObject, seen: Look[T], size: int) -> None:
    scan.unread.update(seen.unread)
    if seen.content_digest and len(scan.not_read) < MAX_NOT_READ:
        reasons = tuple(sorted(seen.unread))
        scan.not_read.append(UnreadObject(item.oid, item.type, reasons, seen.content_digest, size))


def _close(scan: PackScan[T], pack: PackReading) -> None:
    scan.unread.update(pack.unread)
    scan.unread = +scan.unread
    scan.is_over_limit, scan.is_damaged = pack.is_over_limit, pack.is_damaged
    scan.is_cut_off = bool(pack.unread["pack_truncated"])


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

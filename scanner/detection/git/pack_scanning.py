"""Scan of the objects in one git pack: finds tokens, and the paths and commits of the objects that contain them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from scanner.detection.candidate_limits import MAX_CANDIDATES, OVER_LIMIT, CandidateLimits
from scanner.detection.documents import is_lfs_pointer
from scanner.detection.findings import Finding
from scanner.detection.git.pack_codec import ObjectType
from scanner.detection.git.pack_locations import Location, locate, parse_commit, tree_entries
from scanner.detection.git.packs import OBJECT_COST, PackLimits, PackObject, PackReading

T = TypeVar("T")

OBJECT_NAME = "document"
"""The name of every git object in paths through archives, such as `document!/a.txt`."""
MAX_CROWD = 64
"""An object with more tokens than this is handled last, so that it does not use up the limit on tokens."""
MAX_BEYOND = 40_000
"""The maximum number of tokens of one pack that are kept although they exceed the limits on the number of tokens."""
MAX_NOT_READ = 100
"""The maximum number of unread objects of one pack that are listed."""
POSTPONED_BYTES = 48 << 20
"""The maximum size of all objects that wait in memory until the other objects were scanned."""
KEPT_BYTES = 64 << 20
"""The maximum size of all trees and commits of one pack that are kept in memory."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """The result of scanning one object of a git pack.

    Attributes:
        found: The tokens found, as candidates (only the digest) or findings (the raw token).
        content_digest: The SHA-256 of the content in hex. Empty if the whole object was read.
        is_deferred: Whether another process reads the object.
        is_postponed: Whether to open the object after all others.
    """

    found: Sequence[T] = ()
    unread: Mapping[str, int] = field(default_factory=dict)
    content_digest: str = ""
    is_deferred: bool = False
    is_postponed: bool = False


@dataclass(slots=True)
class PackHit(Generic[T]):
    """An object of a git pack with tokens. `is_confirmed` says whether the token store knows all of them."""

    oid: str
    type: ObjectType
    found: list[T]
    is_confirmed: bool = False


@dataclass(frozen=True, slots=True)
class TokensBeyond:
    """The tokens of one object that exceed the limits on the number of tokens, with line feeds between them."""

    oid: str
    type: ObjectType
    tokens: bytes


@dataclass(frozen=True, slots=True)
class UnreadPackObject:
    """An object of a git pack that was not read completely. `oid` is empty for the pack itself."""

    oid: str
    type: ObjectType
    reasons: tuple[str, ...]
    digest: str
    size: int


@dataclass(slots=True)
class PackScan(Generic[T]):
    """The result of scanning the objects of one git pack.

    Attributes:
        hits: The objects in which tokens were found. Objects with few tokens come first.
        locations: The path and commit of objects, by object id.
        not_read: The objects that were not read completely, at most MAX_NOT_READ.
        beyond: The tokens that exceed the limits on the number of tokens.
        reached: The ids of the requested objects that are in the pack.
        is_all_located: Whether all trees were searched for paths.
        is_over_limit: Whether a limit on the pack was reached, so that smaller packs would give more objects.
        unknown: The number of tokens in `beyond` that the token store did not know.
    """

    hits: list[PackHit[T]] = field(default_factory=list)
    locations: dict[str, Location] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    not_read: list[UnreadPackObject] = field(default_factory=list)
    beyond: list[TokensBeyond] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    objects: int = 0
    bytes: int = 0
    is_all_located: bool = True
    is_over_limit: bool = False
    is_cut_off: bool = False
    is_damaged: bool = False
    unknown: int = 0


def scan_objects(
    pack: PackReading,
    look: Callable[[PackObject, bytes], Look[T] | None],
    key: Callable[[T], Hashable],
    wants: Collection[str],
    open_object: Callable[[PackObject, bytes], Look[T] | None] | None = None,
    *,
    token_of: Callable[[T], bytes] | None = None,
) -> PackScan[T]:
    """Scan every object of a git pack, then find the paths and commits of the objects in which tokens were found.

    Args:
        look: Scans one object, given its content (for a tree, the names of its entries).
        key: Returns a value that identifies the token of a finding.
        open_object: Opens an object for which `look` returned `is_postponed`.
        token_of: Returns the token of a finding. Without it, `PackScan.beyond` stays empty.
    """
    scanner = _Scanner[T](key, wants, token_of)
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
    """Collects the results for the objects of one git pack, up to the limits."""

    def __init__(
        self, key: Callable[[T], Hashable], wants: Collection[str], token_of: Callable[[T], bytes] | None
    ) -> None:
        self._key, self._wants, self._token_of = key, wants, token_of
        self._room_beyond = 0 if token_of is None else MAX_BEYOND
        self._scan = PackScan[T]()
        self._limits = CandidateLimits()
        self._crowded: list[PackHit[T]] = []
        self._room = MAX_CANDIDATES
        self._wanted: set[str] = set()
        self._kept: list[PackObject] = []
        self._kept_bytes = 0

    def begin(self, item: PackObject, content: bytes) -> None:
        """Count an object of the pack. Keep the content of a tree or commit."""
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
        """Add the result of scanning one object of `size` bytes."""
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
            self._set_aside(item.oid, item.type, seen.found[self._room :])
            self._room -= len(self._crowded[-1].found)
        elif taken := self._admitted(item.oid, item.type, seen.found):
            scan.hits.append(PackHit(item.oid, item.type, taken))

    def _admitted(self, oid: str, object_type: ObjectType, found: Sequence[T]) -> list[T]:
        """Return the findings within the limits on the number of tokens."""
        taken: list[T] = []
        beyond: list[T] = []
        for one in found:
            key = self._key(one)
            if not self._limits.has_room_for(key):
                beyond.append(one)
            elif self._limits.admits(key):
                taken.append(one)
        self._set_aside(oid, object_type, beyond)
        return taken

    def _set_aside(self, oid: str, object_type: ObjectType, found: Sequence[T]) -> None:
        """Keep tokens that exceed the limits on the number of tokens, or count them as unread."""
        kept = found[: self._room_beyond]
        if kept and self._token_of is not None:
            self._room_beyond -= len(kept)
            self._scan.beyond.append(TokensBeyond(oid, object_type, b"\n".join(map(self._token_of, kept))))
        self._scan.unread[OVER_LIMIT] += len(found) - len(kept)

    def close(self, pack: PackReading) -> PackScan[T]:
        """Find the paths and commits of the objects with tokens, and return the result."""
        scan = self._scan
        for hit in self._crowded:
            hit.found = self._admitted(hit.oid, hit.type, hit.found)
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
    """A request to another process to scan a git pack.

    Attributes:
        opens: Whether to open archives and decode texts. If not, `PackAnswer.deferred` has the objects to open.
        keeps_beyond: Whether to return the tokens that exceed the limits on the number of tokens.
    """

    limits: PackLimits
    hash_name: str
    wants: tuple[str, ...]
    seconds: float
    opens: bool = True
    keeps_beyond: bool = False


@dataclass(frozen=True, slots=True)
class DeferredObject:
    """An object of a git pack that another process has to read, because it takes too long."""

    oid: str
    type: ObjectType
    content: bytes


@dataclass(frozen=True, slots=True)
class PackAnswer:
    """The answer of a process to a `PackRequest`. `failure` is empty, or why the pack could not be scanned.

    `deferred` has the objects that other processes have to read.
    """

    scan: PackScan[Finding]
    deferred: tuple[DeferredObject, ...] = ()
    seconds: float = 0.0
    failure: str = ""

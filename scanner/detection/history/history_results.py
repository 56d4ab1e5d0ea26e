"""The results of reading a git repository: possible tokens, and objects that were not read completely."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from scanner.detection.detector import ScanResult
from scanner.detection.git.pack_codec import ObjectType, object_id

MAX_NAMED = 10_000
"""The maximum number of unread objects that one reader lists."""

SHA1_DIGITS = 40


@dataclass(slots=True)
class ObjectHit:
    """A git object in which possible tokens were found."""

    oid: str
    type: str
    result: ScanResult


@dataclass(frozen=True, slots=True)
class UnreadHistoryObject:
    """A git object of which `count` parts were not read for the reason `reason`."""

    oid: str
    type: str
    reason: str
    count: int


@dataclass(slots=True)
class HistoryShard:
    """The results of reading all or some objects of a git repository.

    `named` lists the first MAX_NAMED objects that were not read completely. `bytes` counts decompressed bytes.
    """

    hits: list[ObjectHit] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    named: list[UnreadHistoryObject] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0

    def note(self, oid: str, object_type: str, reason: str, count: int = 1) -> None:
        """Count an object that was not read completely, and add the object to `named`."""
        self.unread[reason] += count
        if len(self.named) < MAX_NAMED:
            self.named.append(UnreadHistoryObject(oid, object_type, reason, count))

    def take(self, oid: str, object_type: str, result: ScanResult) -> None:
        """Add the result of scanning a git object."""
        self.take_unread(oid, object_type, result.unread)
        if result.candidates:
            self.hits.append(ObjectHit(oid, object_type, result))

    def take_content(self, oid: str, object_type: ObjectType, content: builtins.bytes, result: ScanResult) -> None:
        """Add the result of scanning a git object. If it has tokens, first check that its id matches its content."""
        self.take(oid, object_type, result)
        name = "sha1" if len(oid) == SHA1_DIGITS else "sha256"
        if result.candidates and object_id(object_type, content, name) != oid:
            self.note(oid, object_type, "object_damaged")

    def take_unread(self, oid: str, object_type: str, unread: Mapping[str, int]) -> None:
        """Count the unread parts of an object by reason, and add the object to `named`."""
        for reason, count in unread.items():
            self.note(oid, object_type, reason, count)

    def add(self, other: HistoryShard) -> None:
        """Add the results in `other` to these results."""
        self.hits += other.hits
        self.unread.update(other.unread)
        self.named += other.named[: max(MAX_NAMED - len(self.named), 0)]
        self.objects += other.objects
        self.bytes += other.bytes

    def drop_copies(self) -> None:
        """Drop duplicate results of objects that several packs contain."""
        self.hits = list({(hit.oid, hit.result.candidates): hit for hit in reversed(self.hits)}.values())[::-1]
        named = list(dict.fromkeys(self.named))
        if len(named) < len(self.named):
            for item, times in Counter(self.named).items():
                self.unread[item.reason] -= (times - 1) * item.count
            self.named = named

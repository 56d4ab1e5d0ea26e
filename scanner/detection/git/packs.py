"""Reader of git packs: yields each object, within limits on size, number, work and memory.

The format: https://git-scm.com/docs/gitformat-pack
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from scanner.detection.git.pack_codec import (
    OBJECT_TYPES,
    DamagedPack,
    ObjectType,
    apply_delta,
    entry_head,
    inflate_stream,
    object_id,
)


@dataclass(frozen=True, slots=True)
class PackLimits:
    """Limits on reading one git pack, in bytes.

    Attributes:
        pack_bytes: The pack.
        inflated_bytes: The work, mostly bytes that are decompressed or that a delta produces.
        object_bytes: One object.
        held_bytes: The base objects in memory.
        kept_bytes: The decompressed data in memory.
    """

    pack_bytes: int = 32 * 1024 * 1024
    inflated_bytes: int = 1024 * 1024 * 1024
    object_bytes: int = 100 * 1024 * 1024
    held_bytes: int = 128 * 1024 * 1024
    objects: int = 250_000
    kept_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PackObject:
    """One object of a git pack. `oid` is its id in hex, computed from the content."""

    type: ObjectType
    oid: str
    content: bytes


OBJECT_COST = 1024
"""Each object counts as this many bytes of work, in addition to its own bytes."""
LATE = "seconds"
"""The reason for unread objects if the time for the pack was over."""


class WorkBudget:
    """The work in bytes that is left for one git pack. No work is left when `is_late` returns True."""

    def __init__(self, room: int, is_late: Callable[[], bool] | None = None) -> None:
        self.room = room
        self._is_late = is_late

    def spend(self, size: int) -> None:
        """Subtract `size` bytes of work.

        Raises:
            DamagedPack: no work is left, or the time is over.
        """
        if size > self.room:
            raise DamagedPack("inflated_over_limit")
        if self._is_late is not None and self._is_late():
            raise DamagedPack(LATE)
        self.room -= size


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry (a whole object or a delta) of a git pack."""

    offset: int
    type: int
    base: int | bytes | None
    data_at: int
    size: int
    data: bytes | None = None


@dataclass(slots=True)
class _Base:
    """An object in memory. `waiting` is the number of deltas that need it."""

    type: ObjectType
    content: bytes
    waiting: int


@dataclass(slots=True)
class PackReading:
    """An iterator over the objects of a git pack.

    `unread` counts the unread objects by reason, and is complete after the iteration.
    """

    limits: PackLimits
    hash_name: str = "sha1"
    unread: Counter[str] = field(default_factory=Counter)
    pack: memoryview = field(default_factory=lambda: memoryview(b""), repr=False)
    kept_bytes: int = 0
    entries: list[_Entry] = field(default_factory=list, repr=False)
    budget: WorkBudget = field(default_factory=lambda: WorkBudget(0), repr=False)

    @property
    def pack_bytes(self) -> int:
        return len(self.pack)

    @property
    def is_complete(self) -> bool:
        return not self.unread

    @property
    def is_over_limit(self) -> bool:
        """Whether a limit on the pack was reached, so that smaller packs would give more objects."""
        limits = ("pack_over_limit", "inflated_over_limit", "objects_over_limit")
        return any(self.unread[reason] for reason in limits)

    @property
    def is_damaged(self) -> bool:
        """Whether the pack is corrupt."""
        return any(self.unread[reason] for reason in ("pack_damaged", "pack_checksum", "delta_damaged"))

    def __iter__(self) -> Iterator[PackObject]:
        return _resolve(self)


def read_pack(
    content: bytes,
    limits: PackLimits,
    *,
    hash_name: str = "sha1",
    is_late: Callable[[], bool] | None = None,
    budget: WorkBudget | None = None,
) -> PackReading:
    """Prepare to read a git pack, up to the limits. No exception is raised, even if the pack is invalid.

    Args:
        content: The pack, or its beginning if it is larger than `limits.pack_bytes`.
        is_late: Returns whether the time for the pack is over.
        budget: A limit on the work, which replaces `limits.inflated_bytes` and `is_late`.
    """
    reading = PackReading(limits, hash_name, budget=budget or WorkBudget(limits.inflated_bytes, is_late))
    reading.pack = memoryview(content)[: limits.pack_bytes]
    if len(content) > limits.pack_bytes:
        reading.unread["pack_over_limit"] += 1
    hash_size = hashlib.new(hash_name).digest_size
    reading.entries = _entries(reading.pack, limits, reading, hash_size)
    if reading.is_complete:
        checksum = hashlib.new(hash_name, reading.pack[:-hash_size]).digest()
        reading.unread["pack_checksum"] += checksum != bytes(reading.pack[-hash_size:])
        reading.unread = +reading.unread
    return reading


def _entries(pack: memoryview, limits: PackLimits, reading: PackReading, hash_size: int) -> list[_Entry]:
    if len(pack) < 12:
        reading.unread["pack_truncated"] += 1
        return []
    if bytes(pack[:4]) != b"PACK" or int.from_bytes(pack[4:8], "big") not in (2, 3):
        reading.unread["pack_damaged"] += not reading.is_over_limit
        return []
    count = int.from_bytes(pack[8:12], "big")
    entries: list[_Entry] = []
    position = 12
    try:
        for _ in range(min(count, limits.objects)):
            entry, position = _entry(pack, position, reading, hash_size)
            if entry.size > limits.object_bytes:
                reading.unread["object_over_limit"] += 1
            else:
                entries.append(entry)
        reading.unread["objects_over_limit"] += max(count - limits.objects, 0)
        if not reading.is_over_limit and position + hash_size != len(pack):
            reading.unread["pack_truncated" if position + hash_size > len(pack) else "pack_damaged"] += 1
    except DamagedPack as err:
        reading.unread[str(err)] += not reading.is_over_limit
    reading.unread = +reading.unread
    return entries


def _entry(pack: memoryview, start: int, reading: PackReading, hash_size: int) -> tuple[_Entry, int]:
    """Return the pack entry that begins at `start`, and the offset after it."""
    kind, size, base, data_at = entry_head(pack, start, hash_size)
    if isinstance(base, int):
        base = start - base
    reading.budget.spend(size + OBJECT_COST)
    limits = reading.limits
    keeps = size <= limits.object_bytes and reading.kept_bytes + size <= limits.kept_bytes
    data, end = inflate_stream(pack, data_at, size, keep=keeps)
    reading.kept_bytes += size if keeps else 0
    return _Entry(start, kind, base, data_at, size, data if keeps else None), end


def _resolve(reading: PackReading) -> Iterator[PackObject]:
    """Yield each object of the pack once. The base of a delta comes before the object that the delta builds."""
    limits, unread, budget = reading.limits, reading.unread, reading.budget
    made: set[bytes] = set()
    waiting: dict[int | bytes, list[_Entry]] = defaultdict(list)
    todo: list[tuple[_Entry, _Base | None]] = []
    for entry in reading.entries:
        if entry.base is None:
            todo.append((entry, None))
        else:
            waiting[entry.base].append(entry)
    todo.reverse()
    held = 0
    while todo:
        entry, base = todo.pop()
        if base is not None:
            base.waiting -= 1
            held -= len(base.content) if not base.waiting else 0
        try:
            data = _data_of(entry, reading)
            content = data if base is None else apply_delta(base.content, data, limits.object_bytes, budget.spend)
        except DamagedPack as err:
            unread[str(err)] += 1
            continue
        except MemoryError:
            unread["memory"] += 1
            continue
        object_type = OBJECT_TYPES[entry.type] if base is None else base.type
        oid = object_id(object_type, content, reading.hash_name)
        name = bytes.fromhex(oid)
        deltas = [*waiting.pop(entry.offset, ()), *waiting.pop(name, ())]
        if deltas and held + len(content) > limits.held_bytes:
            unread["inflated_over_limit"] += len(deltas)
        elif deltas:
            held += len(content)
            base = _Base(object_type, content, len(deltas))
            todo.extend((delta, base) for delta in reversed(deltas))
        if name not in made:
            made.add(name)
            yield PackObject(object_type, oid, content)
    missing = sum(len(deltas) for deltas in waiting.values())
    if missing:
        unread["delta_base_missing"] += missing


def _data_of(entry: _Entry, reading: PackReading) -> bytes:
    if entry.data is not None:
        return entry.data
    reading.budget.spend(entry.size + OBJECT_COST)
    return inflate_stream(reading.pack, entry.data_at, entry.size, keep=True)[0]

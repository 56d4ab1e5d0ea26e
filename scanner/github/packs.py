"""Reads a pack that a stranger sent: every object it holds, within limits on size, count and inflation.

Sizes are checked before anything is inflated, inflation is bounded, deltas are bounded before they are applied. What
cannot be read is counted by reason and the rest is returned. https://git-scm.com/docs/gitformat-pack
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

ObjectType = Literal["commit", "tree", "blob", "tag"]

_TYPES: dict[int, ObjectType] = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
_OFS_DELTA, _REF_DELTA = 6, 7
_SLICE = 64 * 1024


@dataclass(frozen=True, slots=True)
class PackLimits:
    """Bytes as received, bytes after inflation (all objects, one object), and the number of objects."""

    pack_bytes: int = 32 * 1024 * 1024
    inflated_bytes: int = 256 * 1024 * 1024
    object_bytes: int = 100 * 1024 * 1024
    objects: int = 500_000


@dataclass(frozen=True, slots=True)
class PackObject:
    """One object. `oid` is its hash in hex, computed here and never believed from elsewhere."""

    type: ObjectType
    oid: str
    content: bytes


@dataclass(slots=True)
class PackReading:
    """The objects that could be read; `unread` counts what could not, by reason."""

    objects: list[PackObject] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    pack_bytes: int = 0

    @property
    def is_complete(self) -> bool:
        return not self.unread

    @property
    def is_over_limit(self) -> bool:
        """Whether asking for less would have brought more."""
        return bool(self.unread["pack_over_limit"] or self.unread["inflated_over_limit"])


class DamagedPack(Exception):
    """A pack or a delta cannot be read any further; its text is the reason that is counted."""


@dataclass(slots=True)
class _Entry:
    offset: int
    type: int
    base: int | bytes | None
    data: bytes | None  # None: too large, inflated only to find its end


def read_pack(chunks: Iterable[bytes], limits: PackLimits, *, hash_name: str = "sha1") -> PackReading:
    """Read a pack as it arrives; nothing of it makes this raise. `hash_name`: sha1 or sha256, by the repository."""
    reading = PackReading()
    pack = _collect(chunks, limits, reading)
    reading.pack_bytes = len(pack)
    entries = _entries(pack, limits, reading, hashlib.new(hash_name).digest_size)
    if reading.is_complete and hashlib.new(hash_name, pack[: -hashlib.new(hash_name).digest_size]).digest() != bytes(
        pack[-hashlib.new(hash_name).digest_size :]
    ):
        reading.unread["pack_checksum"] += 1
    _resolve(entries, limits, reading, hash_name)
    return reading


def object_id(object_type: str, content: bytes, hash_name: str = "sha1") -> str:
    """The id that git gives to an object."""
    digest = hashlib.new(hash_name, f"{object_type} {len(content)}\0".encode())
    digest.update(content)
    return digest.hexdigest()


def _collect(chunks: Iterable[bytes], limits: PackLimits, reading: PackReading) -> memoryview:
    pack = bytearray()
    for chunk in chunks:
        pack += chunk
        if len(pack) > limits.pack_bytes:
            reading.unread["pack_over_limit"] += 1
            del pack[limits.pack_bytes :]
            break
    return memoryview(bytes(pack))


def _entries(pack: memoryview, limits: PackLimits, reading: PackReading, hash_size: int) -> list[_Entry]:
    if len(pack) < 12:
        reading.unread["pack_truncated"] += 1
        return []
    if bytes(pack[:4]) != b"PACK" or int.from_bytes(pack[4:8], "big") not in (2, 3):
        reading.unread["pack_damaged"] += not reading.is_over_limit
        return []
    count = int.from_bytes(pack[8:12], "big")
    if count > limits.objects:
        reading.unread["objects_over_limit"] += count - limits.objects
        count = limits.objects
    entries: list[_Entry] = []
    position, inflated = 12, 0
    try:
        for _ in range(count):
            entry, position, size = _entry(pack, position, limits, limits.inflated_bytes - inflated, hash_size)
            inflated += size
            entries.append(entry)
            reading.unread["object_over_limit"] += entry.data is None
        if count and position + hash_size != len(pack) and not reading.is_over_limit:
            reading.unread["pack_truncated" if position + hash_size > len(pack) else "pack_damaged"] += 1
    except DamagedPack as err:
        reading.unread[str(err) if not reading.is_over_limit else "pack_over_limit"] += 1
    reading.unread = +reading.unread
    return entries


def _entry(pack: memoryview, start: int, limits: PackLimits, room: int, hash_size: int) -> tuple[_Entry, int, int]:
    """The entry at `start`, the position after it, and the bytes that it inflated to."""
    position = start
    byte, position = _byte(pack, position)
    kind, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        byte, position = _byte(pack, position)
        size |= (byte & 0x7F) << shift
        shift += 7
        if shift > 60:
            raise DamagedPack("pack_damaged")
    base: int | bytes | None = None
    if kind == _OFS_DELTA:
        distance, position = _distance(pack, position)
        base = start - distance
    elif kind == _REF_DELTA:
        base, position = bytes(pack[position : position + hash_size]), position + hash_size
    elif kind not in _TYPES:
        raise DamagedPack("pack_damaged")
    if size > room:
        raise DamagedPack("inflated_over_limit")
    keep = size <= limits.object_bytes
    data, position = _inflate(pack, position, size, keep=keep)
    return _Entry(start, kind, base, data), position, size


def _byte(pack: memoryview, position: int) -> tuple[int, int]:
    if position >= len(pack):
        raise DamagedPack("pack_truncated")
    return pack[position], position + 1


def _distance(pack: memoryview, position: int) -> tuple[int, int]:
    byte, position = _byte(pack, position)
    value = byte & 0x7F
    while byte & 0x80:
        byte, position = _byte(pack, position)
        value = ((value + 1) << 7) | (byte & 0x7F)
        if value > 1 << 40:
            raise DamagedPack("pack_damaged")
    return value, position


def _inflate(pack: memoryview, position: int, size: int, *, keep: bool) -> tuple[bytes | None, int]:
    """Inflate exactly `size` bytes. Slices are small, since zlib copies whatever it did not use of them."""
    inflater = zlib.decompressobj()
    parts: list[bytes] = []
    produced = 0
    slice_bytes = min(max(size + 64, 256), _SLICE)
    feed: bytes | memoryview = b""
    while not inflater.eof:
        if not feed:
            feed = pack[position : position + slice_bytes]
            if not feed:
                raise DamagedPack("pack_truncated")
            position += len(feed)
        try:
            part = inflater.decompress(feed, min(size - produced + 1, _SLICE * 16))
        except zlib.error as err:
            raise DamagedPack("pack_damaged") from err
        produced += len(part)
        if produced > size:
            raise DamagedPack("pack_damaged")
        if keep and part:
            parts.append(part)
        feed = inflater.unconsumed_tail
    if produced != size:
        raise DamagedPack("pack_damaged")
    return (b"".join(parts) if keep else None), position - len(inflater.unused_data)


def _resolve(entries: list[_Entry], limits: PackLimits, reading: PackReading, hash_name: str) -> None:
    """Turn entries into objects; deltas wait for their base, however deep, without recursion."""
    waiting: dict[int | bytes, list[_Entry]] = defaultdict(list)
    ready: list[tuple[_Entry, ObjectType, bytes]] = []
    room = limits.inflated_bytes
    for entry in entries:
        if entry.data is None:
            continue
        if entry.base is not None:
            waiting[entry.base].append(entry)
        else:
            ready.append((entry, _TYPES[entry.type], entry.data))
    ready.reverse()
    while ready:
        entry, object_type, content = ready.pop()
        entry.data = b""  # the object holds it from now on
        oid = object_id(object_type, content, hash_name)
        reading.objects.append(PackObject(object_type, oid, content))
        for delta in (*waiting.pop(entry.offset, ()), *waiting.pop(bytes.fromhex(oid), ())):
            try:
                result = apply_delta(content, delta.data or b"", min(limits.object_bytes, room))
            except DamagedPack as err:
                reading.unread[str(err)] += 1
                continue
            room -= len(result)
            ready.append((delta, object_type, result))
    missing = sum(len(deltas) for deltas in waiting.values())
    if missing:
        reading.unread["delta_base_missing"] += missing


def apply_delta(base: bytes, delta: bytes, limit: int) -> bytes:
    """The object that the delta makes of its base. Its declared size bounds it before anything is copied."""
    base_size, position = _delta_size(delta, 0)
    size, position = _delta_size(delta, position)
    if base_size != len(base):
        raise DamagedPack("delta_damaged")
    if size > limit:
        raise DamagedPack("object_over_limit")
    parts: list[bytes] = []
    produced = 0
    end = len(delta)
    while position < end:
        command = delta[position]
        position += 1
        if command & 0x80:
            offset = length = 0
            for bit in range(7):
                if command >> bit & 1:
                    if position >= end:
                        raise DamagedPack("delta_damaged")
                    if bit < 4:
                        offset |= delta[position] << 8 * bit
                    else:
                        length |= delta[position] << 8 * (bit - 4)
                    position += 1
            length = length or 0x10000
            part = base[offset : offset + length]
        else:
            length = command
            part = delta[position : position + length]
            position += length
        produced += length
        if not command or len(part) != length or produced > size:
            raise DamagedPack("delta_damaged")
        parts.append(part)
    if produced != size:
        raise DamagedPack("delta_damaged")
    return b"".join(parts)


def _delta_size(delta: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(delta) or shift > 60:
            raise DamagedPack("delta_damaged")
        byte = delta[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position

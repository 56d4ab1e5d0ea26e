"""Reader of the parts of a git pack: entry headers, zlib streams, deltas and object ids (`gitformat-pack(5)`)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple, cast

from isal import isal_zlib

ObjectType = Literal["commit", "tree", "blob", "tag"]

OBJECT_TYPES: dict[int, ObjectType] = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
OFFSET_DELTA, NAMED_DELTA = 6, 7

COMMAND_COST = 8
"""Each byte of a delta counts as this many bytes of work, in addition to the delta's output."""

_SLICE = 64 * 1024
_StreamError = cast("type[Exception]", isal_zlib.error)  # a class; the type stub declares an instance
_MAX_SHIFT = 60
_MAX_DISTANCE = 1 << 48

Buffer = bytes | memoryview


class DamagedPack(Exception):
    """A git pack, or a delta in it, cannot be read. The message is the reason, for example `pack_damaged`."""


class EntryHead(NamedTuple):
    """The header of an entry (a whole object or a delta) of a git pack.

    Attributes:
        kind: A key of OBJECT_TYPES, OFFSET_DELTA or NAMED_DELTA.
        size: The declared decompressed size.
        base: The distance in bytes to the base of an offset delta, the id of the base of a named delta, or None.
        data_at: The offset of the entry's zlib stream.
    """

    kind: int
    size: int
    base: int | bytes | None
    data_at: int


def entry_head(pack: Buffer, position: int, hash_size: int) -> EntryHead:
    """Return the header of the pack entry at offset `position`.

    Raises:
        DamagedPack: the header is invalid or cut off.
    """
    byte, position = _byte(pack, position)
    kind, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        byte, position = _byte(pack, position)
        size |= (byte & 0x7F) << shift
        shift += 7
        if shift > _MAX_SHIFT:
            raise DamagedPack("pack_damaged")
    if kind == OFFSET_DELTA:
        distance, position = _distance(pack, position)
        return EntryHead(kind, size, distance, position)
    if kind == NAMED_DELTA:
        end = position + hash_size
        return EntryHead(kind, size, bytes(pack[position:end]), end)
    if kind not in OBJECT_TYPES:
        raise DamagedPack("pack_damaged")
    return EntryHead(kind, size, None, position)


def _byte(pack: Buffer, position: int) -> tuple[int, int]:
    if position >= len(pack):
        raise DamagedPack("pack_truncated")
    return pack[position], position + 1


def _distance(pack: Buffer, position: int) -> tuple[int, int]:
    byte, position = _byte(pack, position)
    value = byte & 0x7F
    while byte & 0x80:
        byte, position = _byte(pack, position)
        value = ((value + 1) << 7) | (byte & 0x7F)
        if value > _MAX_DISTANCE:
            raise DamagedPack("pack_damaged")
    return value, position


def inflate_entry(data: Buffer, size: int) -> tuple[bytes, int]:
    """Return the decompressed bytes of the zlib stream in `data`, and the number of bytes after the stream.

    Raises:
        DamagedPack: the stream is invalid, cut off, or does not decompress to `size` bytes.
    """
    inflater = isal_zlib.decompressobj()
    try:
        content: bytes = inflater.decompress(data, size + 1)
        if not inflater.eof and len(content) == size:
            # Call zlib once more, so that it reads the checksum at the end of the input.
            content += inflater.decompress(inflater.unconsumed_tail, 1)
    except _StreamError as err:
        raise DamagedPack("pack_damaged") from err
    if len(content) != size or not inflater.eof:
        raise DamagedPack("pack_damaged")
    return content, len(inflater.unused_data)


def inflate_stream(pack: memoryview, position: int, size: int, *, keep: bool) -> tuple[bytes, int]:
    """Return the decompressed bytes of the zlib stream at offset `position`, and the offset after the stream.

    Args:
        keep: Whether to return the decompressed bytes. If not, return empty bytes.

    Raises:
        DamagedPack: the stream is invalid, cut off, or does not decompress to `size` bytes.
    """
    inflater = isal_zlib.decompressobj()
    content = io.BytesIO()  # BytesIO returns its bytes without a second copy
    produced = 0
    slice_bytes = min(max(size + 64, 256), _SLICE)
    feed: Buffer = b""
    while not inflater.eof:
        if not feed:
            feed = pack[position : position + slice_bytes]
            if not feed:
                raise DamagedPack("pack_truncated")
            position += len(feed)
        try:
            part = inflater.decompress(feed, min(size - produced + 1, _SLICE * 16))
        except _StreamError as err:
            raise DamagedPack("pack_damaged") from err
        produced += len(part)
        if produced > size:
            raise DamagedPack("pack_damaged")
        if keep:
            content.write(part)
        feed = inflater.unconsumed_tail
    if produced != size:
        raise DamagedPack("pack_damaged")
    return content.getvalue(), position - len(inflater.unused_data)


def apply_delta(base: bytes, delta: bytes, limit: int, spend: Callable[[int], None] | None = None) -> bytes:
    """Return the object that a git delta makes from its base object.

    Args:
        limit: The largest allowed result in bytes.
        spend: Called with the cost in bytes before anything is copied.

    Raises:
        DamagedPack: the delta is invalid, or its result is larger than the limit.
    """
    base_size, position = _delta_size(delta, 0)
    size, _ = _delta_size(delta, position)
    if base_size != len(base):
        raise DamagedPack("delta_damaged")
    if size > limit:
        raise DamagedPack("object_over_limit")
    if spend is not None:
        spend(size + COMMAND_COST * len(delta))
    apply, error = _library()
    try:
        chunks = apply(base, delta)
    except error as err:
        raise DamagedPack("delta_damaged") from err
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@cache
def _library() -> tuple[Callable[[bytes, bytes], list[bytes]], type[Exception]]:
    """Return the function of Dulwich that applies a git delta, and the exception that it raises."""
    from dulwich.errors import ApplyDeltaError
    from dulwich.pack import apply_delta as apply

    return apply, ApplyDeltaError


def _delta_size(delta: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(delta) or shift > _MAX_SHIFT:
            raise DamagedPack("delta_damaged")
        byte = delta[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position


def object_id(object_type: str, content: bytes, hash_name: str = "sha1") -> str:
    """Return the object id that git gives to an object with this type and content."""
    digest = hashlib.new(hash_name, f"{object_type} {len(content)}\0".encode(), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()

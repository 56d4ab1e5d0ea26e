"""Maps the packs of a repository into memory, and lists their entries (whole objects and deltas) in arrays.

The format: https://git-scm.com/docs/gitformat-pack
"""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanner.detection.git.pack_codec import NAMED_DELTA, OBJECT_TYPES, OFFSET_DELTA

Array = npt.NDArray[np.unsignedinteger]
Signed = npt.NDArray[np.signedinteger]

NO_BASE, MISSING_BASE = -1, -2
FIRST = 12
"""The offset of the first entry of a pack."""
DAMAGED = 0
"""The kind of an entry whose header cannot be read."""
MAX_OBJECTS = 100_000_000
"""The maximum number of objects in one index. The largest public repositories have 20 million."""

_SLICE = 1 << 18
"""The number of entries whose headers are parsed together. Each takes about 100 bytes of memory."""
_MAGIC = b"\xfftOc\0\0\0\2"
_FANOUT = 256 * 4
_LARGE = 1 << 31
_MAX_SIZE = (1 << 32) - 1
_IS_KNOWN = np.array([kind in (*OBJECT_TYPES, OFFSET_DELTA, NAMED_DELTA) for kind in range(8)])


class UnusualPack(Exception):
    """A pack or its index has an unusual form, so git has to read the pack."""


@dataclass(slots=True)
class PackFile:
    """A pack that is mapped into memory, and the object ids in its index.

    Attributes:
        ids: The ids of the objects, one row of bytes for each id.
        hash_bytes: The size of an id in bytes.
        has_sorted_ids: Whether the ids are sorted and each occurs once.
    """

    pack: memoryview
    ids: npt.NDArray[np.uint8]
    hash_bytes: int
    has_sorted_ids: bool = True


@dataclass(slots=True)
class Entries:
    """The entries (whole objects and deltas) of one pack, in the order of their offsets.

    For example, `bases` = [NO_BASE, 0] means that entry 1 is a delta of entry 0, a whole object.

    Attributes:
        offsets: The offset of each entry, and then the end of the last entry.
        id_rows: For each entry, the row of its id in `PackFile.ids`.
        kinds: For each entry, the type of the whole object or the kind of the delta.
        sizes: The declared size of each entry, at most 4 GB - 1.
        bases: The number of each delta's base, or MISSING_BASE.
    """

    offsets: Array
    id_rows: Array
    kinds: npt.NDArray[np.uint8]
    heads: npt.NDArray[np.uint8]
    sizes: Array
    bases: Signed


def open_pack(pack: Path, index: Path) -> tuple[PackFile, Entries]:
    """Map a pack into memory. Return the pack and its entries (whole objects and deltas).

    Raises:
        UnusualPack: the index or the pack is damaged, or of another format.
        OSError: a file cannot be read.
    """
    return _opened(memoryview(_mapped(index)), memoryview(_mapped(pack)))


def _mapped(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            raise UnusualPack("not a file")
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)


def _opened(index: memoryview, pack: memoryview) -> tuple[PackFile, Entries]:
    has_version = bytes(index[:4]) == _MAGIC[:4]
    ids_at = _FANOUT + (len(_MAGIC) if has_version else 0)
    if len(index) < ids_at or (has_version and bytes(index[: len(_MAGIC)]) != _MAGIC):
        raise UnusualPack("another index format")
    fanout = np.frombuffer(index, ">u4", 256, ids_at - _FANOUT)
    count = int(fanout[-1])
    if count > MAX_OBJECTS or bool((np.diff(fanout.astype(np.int64)) < 0).any()):
        raise UnusualPack("damaged index")
    hash_bytes, large = _layout(len(index), ids_at, count)
    if bytes(pack[:4]) != b"PACK" or int.from_bytes(pack[4:8], "big") not in (2, 3) or len(pack) < 12 + hash_bytes:
        raise UnusualPack("another pack format")
    if int.from_bytes(pack[8:12], "big") != count or pack[-hash_bytes:] != index[-2 * hash_bytes : -hash_bytes]:
        raise UnusualPack("the index belongs to another pack")
    offsets: Array
    if has_version:
        ids = np.frombuffer(index, np.uint8, count * hash_bytes, ids_at).reshape(count, hash_bytes)
        offsets = _offsets(index, ids_at + count * (hash_bytes + 4), count, large)
    else:
        rows = np.frombuffer(index, np.uint8, count * (hash_bytes + 4), ids_at).reshape(count, hash_bytes + 4)
        ids = np.ascontiguousarray(rows[:, 4:])
        offsets = np.ascontiguousarray(rows[:, :4]).view(">u4").reshape(count).astype(np.uint32)
    file = PackFile(pack, ids, hash_bytes, _is_increasing(ids))
    return file, _parsed(file, *_in_order(offsets, len(pack) - hash_bytes))


def _layout(size: int, ids_at: int, count: int) -> tuple[int, int]:
    """Return the size of an object id in bytes, and the number of 64-bit offsets, in an index."""
    for hash_bytes in (20, 32):
        if ids_at == _FANOUT:
            if size == ids_at + count * (hash_bytes + 4) + 2 * hash_bytes:
                return hash_bytes, 0
            continue
        rest = size - ids_at - count * (hash_bytes + 8) - 2 * hash_bytes
        if rest >= 0 and rest % 8 == 0 and rest // 8 <= count:
            return hash_bytes, rest // 8
    raise UnusualPack("damaged index")


def _is_increasing(ids: npt.NDArray[np.uint8]) -> bool:
    """Return whether the object ids are sorted and different."""
    values = sortable(ids)
    for first in range(0, len(values) - 1, _SLICE):
        part = values[first : first + _SLICE + 1]
        if not bool((part[1:] > part[:-1]).all()):
            return False
    return True


def _offsets(index: memoryview, at: int, count: int, large: int) -> Array:
    """Return the offset of each object in the pack, in the order of the ids."""
    listed = np.frombuffer(index, ">u4", count, at)
    if not large:
        return listed.astype(np.uint32)
    wide = np.frombuffer(index, ">u8", large, at + 4 * count)
    offsets = listed.astype(np.uint64)
    rows = np.flatnonzero(listed & _LARGE)
    places = (listed[rows] & (_LARGE - 1)).astype(np.int64)
    if places.size and int(places.max()) >= large:
        raise UnusualPack("damaged index")
    offsets[rows] = wide[places]
    return offsets


def _in_order(offsets: Array, end: int) -> tuple[Array, Array]:
    """Return the sorted offsets and `end`, and the position of each sorted offset in `offsets`."""
    count = len(offsets)
    if count and not FIRST <= int(offsets.min()) <= int(offsets.max()) < end:
        raise UnusualPack("damaged index")
    id_rows = argsort(offsets)
    result: Array = np.empty(count + 1, np.uint32 if end <= _MAX_SIZE else np.uint64)
    result[:count] = offsets[id_rows]
    result[count] = end
    return result, id_rows


def argsort(values: npt.NDArray[np.integer]) -> Array:
    """Return the indexes that sort the values (a stable sort), as uint32."""
    count = len(values)
    order = np.empty(count, np.uint32)
    if not count:
        return order
    # Sort range by range, because one call of `numpy.argsort` would need at least twice the memory.
    ranges = max(1, count >> 20)
    low, high = int(values.min()), int(values.max()) + 1
    done = 0
    for number in range(ranges):
        first, last = low + (high - low) * number // ranges, low + (high - low) * (number + 1) // ranges
        rows = np.flatnonzero((values >= first) & (values < last)).astype(np.uint32)
        order[done : done + len(rows)] = rows[np.argsort(values[rows], kind="stable")]
        done += len(rows)
    return order


def _parsed(file: PackFile, offsets: Array, id_rows: Array) -> Entries:
    count = len(id_rows)
    entries = Entries(
        offsets,
        id_rows,
        np.empty(count, np.uint8),
        np.empty(count, np.uint8),
        np.empty(count, np.uint32),
        np.full(count, NO_BASE, np.int32),
    )
    raw = np.frombuffer(file.pack, np.uint8)
    named: list[npt.NDArray[np.int64]] = []
    for first in range(0, count, _SLICE):
        part = slice(first, min(first + _SLICE, count))
        starts = offsets[part].astype(np.int64)
        kinds, sizes, ends, is_good = _sizes(raw, starts)
        entries.sizes[part] = np.minimum(sizes, _MAX_SIZE)
        rows = np.flatnonzero(kinds == OFFSET_DELTA)
        distances, ends[rows], is_whole = _distances(raw, ends[rows])
        is_good[rows] &= is_whole
        entries.bases[first + rows] = _numbers_of(offsets, starts[rows] - distances)
        rows = np.flatnonzero(kinds == NAMED_DELTA)
        named.append(first + rows)
        ends[rows] += file.hash_bytes
        is_good &= _IS_KNOWN[kinds] & (ends < int(offsets[-1]))
        entries.kinds[part] = np.where(is_good, kinds, DAMAGED)
        entries.heads[part] = np.where(is_good, ends - starts, 0)
    rows = np.concatenate(named) if named else np.empty(0, np.int64)
    entries.bases[rows] = _named_bases(file, entries, raw, rows)
    entries.bases[entries.kinds == DAMAGED] = MISSING_BASE
    return entries


def _sizes(
    raw: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Parse the headers of entries into types, sizes, the offsets after the sizes, and which sizes are valid."""
    last = len(raw) - 1
    byte = raw[starts]
    ends = starts + 1
    kinds, sizes = (byte >> 4 & 7).astype(np.uint8), (byte & 15).astype(np.int64)
    more = np.flatnonzero(byte & 0x80)
    for shift in range(4, 60, 7):
        if not more.size:
            break
        byte = raw[np.minimum(ends[more], last)]
        ends[more] += 1
        sizes[more] |= (byte & 0x7F).astype(np.int64) << shift
        more = more[byte >= 0x80]
    is_good = np.ones(len(ends), np.bool_)
    is_good[more] = False
    return kinds, sizes, ends, is_good


def _distances(
    raw: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Parse deltas' distances to their bases. Return distances, the offsets after them, and which are valid."""
    last = len(raw) - 1
    byte = raw[np.minimum(starts, last)]
    ends = starts + 1
    distances = (byte & 0x7F).astype(np.int64)
    more = np.flatnonzero(byte & 0x80)
    for _ in range(7):
        if not more.size:
            break
        byte = raw[np.minimum(ends[more], last)]
        ends[more] += 1
        distances[more] = (distances[more] + 1) << 7 | (byte & 0x7F)
        more = more[byte >= 0x80]
    is_good = np.ones(len(ends), np.bool_)
    is_good[more] = False
    return distances, ends, is_good


def _numbers_of(offsets: Array, wanted: npt.NDArray[np.int64]) -> Signed:
    """Return the number of the entry at each offset in `wanted`, or MISSING_BASE."""
    starts = offsets[:-1]
    wanted = np.maximum(wanted, 0)
    numbers = np.searchsorted(starts, wanted.astype(offsets.dtype))
    numbers[numbers == len(starts)] = 0
    return np.where(starts[numbers] == wanted, numbers, MISSING_BASE).astype(np.int32)


def _named_bases(
    file: PackFile, entries: Entries, raw: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """Return the entry number of the base of each delta that names its base by id, or MISSING_BASE."""
    bases = np.full(len(rows), MISSING_BASE, np.int32)
    places = np.flatnonzero(entries.kinds[rows] == NAMED_DELTA)
    if not places.size:
        return bases
    numbers = np.empty(len(entries.id_rows), np.uint32)
    numbers[entries.id_rows] = np.arange(len(numbers), dtype=np.uint32)
    known = sortable(file.ids)
    for first in range(0, len(places), _SLICE):
        part = places[first : first + _SLICE]
        ends = entries.offsets[rows[part]].astype(np.int64) + entries.heads[rows[part]]
        wanted = sortable(raw[ends[:, None] + np.arange(-file.hash_bytes, 0)])
        found = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        is_here = known[found] == wanted
        bases[part[is_here]] = numbers[found[is_here]].astype(np.int32)
    return bases


def sortable(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.bytes_]:
    """Return the object ids as strings in a numpy array, which numpy can sort and search."""
    rows = np.ascontiguousarray(ids)
    return rows.view(f"S{rows.shape[1]}").reshape(len(rows))

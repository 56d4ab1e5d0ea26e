"""Writes git packs from given entries, and index files that may contain wrong values."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

from scanner.detection.git.pack_codec import object_id
from tests.scanner.detection.git.test_packs import header, offset, pack_of, plain, varint
from workers.sandbox.git_backend import git

FIRST = 12
MAX_COPY = 0xFFFFFF


class Entry(NamedTuple):
    """An entry of a git pack: its encoded bytes, and its id in the index, which may be wrong."""

    oid: bytes
    raw: bytes


def blob(content: bytes, *, oid: bytes | None = None) -> Entry:
    """Return the pack entry of a blob. `oid` is its id in the index, by default the true id."""
    return Entry(oid_of(content) if oid is None else oid, plain("blob", content))


def oid_of(content: bytes) -> bytes:
    return bytes.fromhex(object_id("blob", content))


def empty_repository(path: Path) -> Path:
    git("init", "--quiet", "--bare", "--template=", path)
    (path / "objects" / "pack").mkdir(exist_ok=True)
    return path


def write_pack(
    repository: Path, name: str, entries: Sequence[Entry], *, offsets: Sequence[int] = (), count: int | None = None
) -> Path:
    """Write a git pack and its index, and return the path of the pack.

    Args:
        repository: The git directory.
        name: The hexadecimal digits in the pack's file name.
        entries: The entries of the pack.
        offsets: The offsets in the index. By default, they are the true offsets.
        count: The number of objects in the pack's header. By default, it is the number of entries in the index.
    """
    true = list(accumulate((len(entry.raw) for entry in entries), initial=FIRST))
    listed = list(offsets) or true[:-1]
    content = pack_of([entry.raw for entry in entries], len(listed) if count is None else count)
    pack = repository / "objects" / "pack" / f"pack-{name}.pack"
    pack.write_bytes(content)
    rows = sorted((entry.oid, at) for entry, at in zip(entries, listed, strict=False))
    pack.with_suffix(".idx").write_bytes(index_of(rows, content))
    return pack


def index_of(rows: Sequence[tuple[bytes, int]], pack: bytes) -> bytes:
    """Return a pack index (version 2) that lists these pairs of object id and offset."""
    large = [at for _, at in rows if at >= 1 << 31]
    listed = [at if at < 1 << 31 else (1 << 31) + large.index(at) for _, at in rows]
    index = b"\xfftOc\0\0\0\2"
    index += b"".join(sum(oid[0] <= byte for oid, _ in rows).to_bytes(4) for byte in range(256))
    index += b"".join(oid for oid, _ in rows) + bytes(4 * len(rows))
    index += b"".join(at.to_bytes(4) for at in listed) + b"".join(at.to_bytes(8) for at in large) + pack[-20:]
    return index + hashlib.sha1(index).digest()


def deltas_of(size: int, count: int) -> Iterator[Entry]:
    """Yield the pack entries of a blob of `size` zeros and of `count` small deltas of it."""
    base = blob(bytes(size))
    yield base
    at = len(base.raw)
    for number in range(count):
        end = b"%08d" % number
        copies = b"".join(
            b"\xff" + first.to_bytes(4, "little") + (last - first).to_bytes(3, "little")
            for first, last in pairwise([*range(0, size - len(end), MAX_COPY), size - len(end)])
        )
        delta = varint(size) + varint(size) + copies + bytes([len(end)]) + end
        raw = header(6, len(delta)) + offset(at) + zlib.compress(delta)
        yield Entry(oid_of(bytes(size - len(end)) + end), raw)
        at += len(raw)

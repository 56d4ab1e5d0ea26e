"""Reader of git packs and bundles that are documents themselves. It needs no repository, network or cache.

The format is `gitformat-pack(5)`. Declared sizes are checked before anything is inflated, and deltas are applied only
to bases inside the same pack.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from scanner.detection.limits import Meter
from scanner.detection.members import Container, Member, UnreadableError, whole

_KINDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
_OFFSET_DELTA, _NAMED_DELTA = 6, 7
_BASE_CACHE = 32 << 20
_MAX_CHAIN = 4_096
_CHUNK = 64 << 10
_COMMAND_COST = 64
"""Bytes that one delta command is charged in addition to its output. Commands of one byte would otherwise be free."""
_COMMANDS_A_PAYMENT = 1024


class _Entry(NamedTuple):
    """One packed object: the offset of its zlib stream and, for a delta, the offset or name of its base."""

    kind: int
    size: int
    data: int
    base: int | bytes


_Waiting = defaultdict[int | bytes, list[int]]
"""Offsets of deltas, keyed by the offset or name of the base that they wait for."""


def bundle_members(container: Container) -> Iterator[Member]:
    """Yield the pack in a git bundle. The list of refs before it is scanned with the bundle's own bytes."""
    content = whole(container)
    begin = content.find(b"\n\nPACK")
    if begin < 0:
        raise UnreadableError("damaged")
    yield Member("pack", content[begin + 2 :])


def pack_members(container: Container) -> Iterator[Member]:
    """Yield every object of a pack except trees, named by type and id, with its deltas applied."""
    content = whole(container)
    if len(content) < 12 or content[4:8] not in (b"\0\0\0\2", b"\0\0\0\3"):
        raise UnreadableError("damaged")
    yield from _Pack(content, container.meter).members(int.from_bytes(content[8:12], "big"))


def _hash_of(content: bytes) -> str:
    """Return the hash algorithm of a pack's object ids: the one that matches the checksum at its end."""
    is_sha256 = hashlib.sha256(memoryview(content)[:-32]).digest() == content[-32:]
    return "sha256" if is_sha256 else "sha1"


class _Pack:
    def __init__(self, content: bytes, meter: Meter) -> None:
        self._content = content
        self._hash_name = _hash_of(content)
        self._hash_size = hashlib.new(self._hash_name).digest_size
        self._meter = meter
        self._entries: dict[int, _Entry] = {}
        self._offsets: dict[bytes, int] = {}
        self._made: set[int] = set()
        self._cache: OrderedDict[int, tuple[int, bytes]] = OrderedDict()
        self._cached = 0

    def members(self, count: int) -> Iterator[Member]:
        at = 12
        waiting: _Waiting = defaultdict(list)
        for _ in range(count):
            self._meter.enter()
            entry = self._header(at)
            self._entries[at] = entry
            end = self._end_of(entry)
            known = self._offsets if isinstance(entry.base, bytes) else self._made
            if entry.kind not in _KINDS and entry.base not in known:
                waiting[entry.base].append(at)
            else:
                yield from self._resolved(at, waiting)
            at = end
        if waiting:
            self._meter.note("missing_base", sum(map(len, waiting.values())))

    def _resolved(self, at: int, waiting: _Waiting) -> Iterator[Member]:
        """Yield the object and the earlier deltas that waited for it, depth first."""
        todo = [at]
        while todo:
            at = todo.pop()
            found = self._object(at)
            if found is None:
                continue
            kind, body = found
            name = self._name(kind, body)
            is_known = name in self._offsets
            self._offsets.setdefault(name, at)
            self._made.add(at)
            todo += (*waiting.pop(name, ()), *waiting.pop(at, ()))
            if kind != 2 and not is_known:
                yield Member(f"{_KINDS[kind].decode('ascii')} {name.hex()}", body)

    def _name(self, kind: int, body: bytes) -> bytes:
        digest = hashlib.new(self._hash_name, b"%s %d\0" % (_KINDS[kind], len(body)), usedforsecurity=False)
        digest.update(body)
        return digest.digest()

    def _header(self, at: int) -> _Entry:
        start = at
        byte = self._byte(at)
        kind, size, shift = (byte >> 4) & 7, byte & 15, 4
        while byte & 128:
            at += 1
            byte = self._byte(at)
            size |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise UnreadableError("damaged")
        at += 1
        base: int | bytes = 0
        if kind == _OFFSET_DELTA:
            byte = self._byte(at)
            distance = byte & 127
            while byte & 128:
                at += 1
                byte = self._byte(at)
                distance = ((distance + 1) << 7) | (byte & 127)
                if distance > len(self._content):
                    raise UnreadableError("damaged")
            at += 1
            base = start - distance
            if base not in self._entries:
                raise UnreadableError("damaged")
        elif kind == _NAMED_DELTA:
            base = self._content[at : at + self._hash_size]
            at += self._hash_size
        elif kind not in _KINDS:
            raise UnreadableError("damaged")
        return _Entry(kind, size, at, base)

    def _byte(self, at: int) -> int:
        if at >= len(self._content):
            raise UnreadableError("damaged")
        return self._content[at]

    def _end_of(self, entry: _Entry) -> int:
        """Return the end of the entry's zlib stream. It is inflated piece by piece to find the end, and the output is
        discarded.
        """
        inflater = zlib.decompressobj()
        at = entry.data
        data = b""
        size = _slice_size(entry)
        try:
            while not inflater.eof:
                if not data:
                    data = self._content[at : at + size]
                    at += len(data)
                    if not data:
                        raise UnreadableError("damaged")
                self._meter.take(len(inflater.decompress(data, _CHUNK * 4)))
                data = inflater.unconsumed_tail
        except zlib.error as error:
            raise UnreadableError("damaged") from error
        return at - len(inflater.unused_data)

    def _inflated(self, entry: _Entry) -> bytes | None:
        if entry.size > self._meter.limits.member_bytes:
            self._meter.note("member_size")
            return None
        self._meter.take(entry.size)
        inflater = zlib.decompressobj()
        at, size, feed = entry.data, _slice_size(entry), b""
        body = io.BytesIO()
        while not inflater.eof:
            if not feed:
                feed = self._content[at : at + size]
                at += len(feed)
            if not feed or body.tell() > entry.size:
                raise UnreadableError("damaged")
            body.write(inflater.decompress(feed, entry.size - body.tell() + 1))
            feed = inflater.unconsumed_tail
        if body.tell() != entry.size:
            raise UnreadableError("damaged")
        return body.getvalue()

    def _object(self, at: int) -> tuple[int, bytes] | None:
        """Return type and bytes of the object at an offset, with its chain of deltas applied."""
        chain: list[_Entry] = []
        offset = at
        while offset not in self._cache:
            entry = self._entries[offset]
            if entry.kind in _KINDS:
                break
            chain.append(entry)
            if len(chain) > _MAX_CHAIN:
                raise UnreadableError("damaged")
            offset = self._offsets[entry.base] if isinstance(entry.base, bytes) else entry.base
        if offset in self._cache:
            self._cache.move_to_end(offset)
            kind, body = self._cache[offset]
        else:
            plain = self._inflated(self._entries[offset])
            if plain is None:
                return None
            kind, body = self._entries[offset].kind, plain
        for entry in reversed(chain):
            delta = self._inflated(entry)
            applied = _applied(body, delta, self._meter) if delta is not None else None
            if applied is None:
                return None
            body = applied
        self._remember(at, kind, body)
        return kind, body

    def _remember(self, at: int, kind: int, body: bytes) -> None:
        if at in self._cache or len(body) > _BASE_CACHE // 4:
            return
        self._cache[at] = (kind, body)
        self._cached += len(body)
        while self._cached > _BASE_CACHE:
            _, (_, dropped) = self._cache.popitem(last=False)
            self._cached -= len(dropped)


def _slice_size(entry: _Entry) -> int:
    """Return how many bytes zlib gets at a time. It copies its unused input, so large slices would cost
    quadratic time.
    """
    return min(max(entry.size + 64, 256), _CHUNK)


def _applied(base: bytes, delta: bytes, meter: Meter) -> bytes | None:
    """Return the delta applied to its base, or None if the result exceeds the limit for one member."""
    at, base_size = _number(delta, 0)
    at, size = _number(delta, at)
    if base_size != len(base):
        raise UnreadableError("damaged")
    if size > meter.limits.member_bytes:
        meter.note("member_size")
        return None
    meter.take(size)
    body = io.BytesIO()
    source = memoryview(base)
    total = commands = 0
    while at < len(delta):
        if commands % _COMMANDS_A_PAYMENT == 0:
            # Charge each command: commands that produce one byte each would otherwise be free.
            meter.take(_COMMAND_COST * min(_COMMANDS_A_PAYMENT, len(delta) - at))
        commands += 1
        code = delta[at]
        at += 1
        if code & 128:
            offset = length = 0
            for bit in range(4):
                if code & (1 << bit):
                    offset |= _at(delta, at) << (8 * bit)
                    at += 1
            for bit in range(3):
                if code & (16 << bit):
                    length |= _at(delta, at) << (8 * bit)
                    at += 1
            piece: bytes | memoryview = source[offset : offset + (length or 0x10000)]
        else:
            piece = delta[at : at + code]
            at += code
        total += len(piece)
        if not len(piece) or total > size:
            raise UnreadableError("damaged")
        body.write(piece)
    if total != size:
        raise UnreadableError("damaged")
    return body.getvalue()


def _at(delta: bytes, at: int) -> int:
    if at >= len(delta):
        raise UnreadableError("damaged")
    return delta[at]


def _number(delta: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(delta) or shift > 63:
            raise UnreadableError("damaged")
        byte = delta[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return at, value

"""Tests for reading untrusted git packs at a limited cost."""

from __future__ import annotations

import contextlib
import hashlib
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detection.git.pack_codec import DamagedPack, apply_delta, object_id
from scanner.detection.git.packs import PackLimits, PackReading, read_pack

TYPES = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
LIMITS = PackLimits()


def header(kind: int, size: int) -> bytes:
    first, size = kind << 4 | size & 15, size >> 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    out.append(first)
    return bytes(out)


def plain(kind: str, content: bytes) -> bytes:
    return header(TYPES[kind], len(content)) + zlib.compress(content)


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def delta(base: bytes, result: bytes) -> bytes:
    """Return a git delta that makes `result` from `base`."""
    common = 0
    while common < min(len(base), len(result), 0xFFFF) and base[common] == result[common]:
        common += 1
    out = bytearray(varint(len(base)) + varint(len(result)))
    if common:
        out += bytes([0x80 | 0x10 | 0x20, common & 0xFF, common >> 8])
    for start in range(common, len(result), 127):
        part = result[start : start + 127]
        out += bytes([len(part)]) + part
    return bytes(out)


def offset(distance: int) -> bytes:
    out = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        out.append(0x80 | distance & 0x7F)
    return bytes(reversed(out))


def pack_of(entries: list[bytes], count: int | None = None) -> bytes:
    body = b"PACK" + (2).to_bytes(4, "big") + (len(entries) if count is None else count).to_bytes(4, "big")
    body += b"".join(entries)
    return body + hashlib.sha1(body).digest()


class Read:
    """The result of reading a pack: its objects, the counts of unread objects by reason, and whether it was read
    completely.
    """

    def __init__(self, reading: PackReading) -> None:
        self.objects = list(reading)
        self.unread, self.is_complete, self.is_over_limit = reading.unread, reading.is_complete, reading.is_over_limit


def read(pack: bytes, limits: PackLimits = LIMITS) -> Read:
    return Read(read_pack(pack, limits))


@st.composite
def packs(draw: st.DrawFn) -> tuple[bytes, dict[str, bytes]]:
    """Draw a git pack, and the contents of its objects by id."""
    contents = draw(st.lists(st.binary(max_size=400), min_size=1, max_size=8, unique=True))
    entries: list[bytes] = []
    objects: dict[str, bytes] = {}
    for number, content in enumerate(contents):
        objects[object_id("blob", content)] = content
        base = draw(st.sampled_from(contents[:number])) if number else b""
        kind = draw(st.sampled_from(["plain", "ref", "offset"])) if number else "plain"
        if kind == "plain":
            entries.append(plain("blob", content))
        elif kind == "ref":
            change = delta(base, content)
            reference = bytes.fromhex(object_id("blob", base))
            entries.append(header(7, len(change)) + reference + zlib.compress(change))
        else:
            change = delta(base, content)
            distance = sum(map(len, entries[contents.index(base) :]))
            entries.append(header(6, len(change)) + offset(distance) + zlib.compress(change))
    return pack_of(entries), objects


@given(packs(), st.sampled_from([0, 300, 1 << 20]))
@settings(deadline=None)
def test_every_object_of_a_good_pack_is_read_whether_it_is_inflated_once_or_twice(
    made: tuple[bytes, dict[str, bytes]], kept_bytes: int
) -> None:
    pack, objects = made
    reading = read(pack, PackLimits(kept_bytes=kept_bytes))
    assert {item.oid: item.content for item in reading.objects} == objects
    assert reading.is_complete


@given(packs(), st.data())
@settings(deadline=None, max_examples=200)
def test_damage_is_counted_and_raises_no_exception(made: tuple[bytes, dict[str, bytes]], data: st.DataObject) -> None:
    pack, objects = made
    at = data.draw(st.integers(0, len(pack) - 1))
    if data.draw(st.booleans()):
        broken = pack[:at]
    else:
        broken = pack[:at] + bytes([pack[at] ^ data.draw(st.integers(1, 255))]) + pack[at + 1 :]
    reading = read(broken)
    assert not reading.is_complete
    assert all(object_id(item.type, item.content) == item.oid for item in reading.objects)
    assert len(reading.objects) <= len(objects) + 1


@given(st.binary(max_size=2000))
def test_no_bytes_crash_the_reader(content: bytes) -> None:
    assert not read(content).is_complete
    read(b"PACK\0\0\0\2\0\0\0\5" + content)


def test_a_ref_delta_before_its_base_is_resolved() -> None:
    base, result = b"a" * 100, b"a" * 90 + b"new"
    change = delta(base, result)
    first = header(7, len(change)) + bytes.fromhex(object_id("blob", base)) + zlib.compress(change)
    reading = read(pack_of([first, plain("blob", base)]))
    assert {item.content for item in reading.objects} == {base, result}


def test_a_chain_of_ten_thousand_deltas_needs_no_recursion() -> None:
    entries, content = [plain("blob", b"0")], b"0"
    for number in range(1, 10_000):
        following = str(number).encode()
        change = delta(content, following)
        entries.append(header(6, len(change)) + offset(len(entries[-1])) + zlib.compress(change))
        content = following
    reading = read(pack_of(entries))
    assert len(reading.objects) == 10_000
    assert reading.is_complete


def test_a_bomb_is_not_inflated_beyond_what_it_declares_and_the_rest_is_read() -> None:
    bomb = zlib.compress(bytes(300 << 20), 9)
    assert len(bomb) < 400_000
    lying = header(3, 10) + bomb
    honest = header(3, 300 << 20) + bomb
    limits = PackLimits(object_bytes=1 << 20, inflated_bytes=512 << 20)
    tracemalloc.start()
    first = read(pack_of([plain("blob", b"before"), lying]), limits)
    second = read(pack_of([honest, plain("blob", b"after")]), limits)
    third = read(pack_of([honest]), PackLimits(inflated_bytes=1 << 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20
    assert ([item.content for item in first.objects], first.unread["pack_damaged"]) == ([b"before"], 1)
    assert ([item.content for item in second.objects], second.unread["object_over_limit"]) == ([b"after"], 1)
    assert third.unread["inflated_over_limit"] == 1


def test_a_delta_that_copies_a_gigabyte_is_refused_before_it_copies() -> None:
    base = bytes(1 << 16)
    copy = bytes([0x80 | 0x40, 1])  # an instruction that copies 65,536 bytes from offset 0
    change = varint(len(base)) + varint(1 << 30) + copy * (1 << 14)
    entry = header(7, len(change)) + bytes.fromhex(object_id("blob", base)) + zlib.compress(change)
    tracemalloc.start()
    reading = read(pack_of([plain("blob", base), entry]), PackLimits(object_bytes=1 << 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert reading.unread["object_over_limit"] == 1
    lying = varint(len(base)) + varint(10) + copy * (1 << 14)
    entry = header(7, len(lying)) + bytes.fromhex(object_id("blob", base)) + zlib.compress(lying)
    assert read(pack_of([plain("blob", base), entry])).unread["delta_damaged"] == 1


@given(st.binary(max_size=50), st.binary(max_size=200))
def test_no_delta_raises_an_exception_or_exceeds_its_limit(base: bytes, change: bytes) -> None:
    with contextlib.suppress(DamagedPack):
        assert len(apply_delta(base, change, 1000)) <= 1000


def test_a_declared_count_of_four_billion_objects_allocates_nothing() -> None:
    reading = read(pack_of([plain("blob", b"x")], count=0xFFFFFFFF))
    assert [item.content for item in reading.objects] == [b"x"]
    assert not reading.is_complete
    few = read(pack_of([plain("blob", bytes([number])) for number in range(9)]), PackLimits(objects=4))
    assert (len(few.objects), few.unread, few.is_over_limit) == (4, {"objects_over_limit": 5}, True)


def test_a_missing_base_is_counted() -> None:
    change = delta(b"base", b"result")
    entry = header(7, len(change)) + bytes(20) + zlib.compress(change)
    assert read(pack_of([entry])).unread == {"delta_base_missing": 1}


def test_a_pack_over_the_limit_is_read_up_to_it() -> None:
    chance = random.Random(1)
    entries = [plain("blob", chance.randbytes(1000)) for _ in range(50)]
    reading = read(pack_of(entries), PackLimits(pack_bytes=20_000))
    assert 15 <= len(reading.objects) < 50
    assert reading.is_over_limit


@pytest.mark.parametrize("version", [0, 1, 4])
def test_another_version_is_refused(version: int) -> None:
    pack = bytearray(pack_of([]))
    pack[7] = version
    assert read(bytes(pack)).unread["pack_damaged"] == 1


def test_two_hundred_deltas_of_one_base_share_one_budget() -> None:
    base = bytes(1 << 20)
    copy = bytes([0x80 | 0x40, 0x10])  # an instruction that copies 1 MB from offset 0
    entries = [plain("blob", base)]
    for number in range(200):
        change = varint(len(base)) + varint(len(base) + 1) + copy + bytes([1, number])
        entries.append(header(7, len(change)) + bytes.fromhex(object_id("blob", base)) + zlib.compress(change))
    reading = read(pack_of(entries), PackLimits(inflated_bytes=20 << 20))
    assert 15 <= len(reading.objects) <= 20
    assert reading.unread == {"inflated_over_limit": 201 - len(reading.objects)}
    assert len(read(pack_of(entries)).objects) == 201


def test_delta_commands_of_one_byte_are_charged() -> None:
    size = 1 << 20
    change = varint(1) + varint(size) + b"\x90\x01" * size  # each instruction copies one byte
    entry = header(7, len(change)) + bytes.fromhex(object_id("blob", b"x")) + zlib.compress(change)
    reading = read(pack_of([plain("blob", b"x"), entry]), PackLimits(inflated_bytes=16 << 20))
    assert reading.unread == {"inflated_over_limit": 1}
    assert len(read(pack_of([plain("blob", b"x"), entry])).objects) == 2


def test_a_second_inflation_is_charged_again() -> None:
    reading = read(pack_of([plain("blob", bytes(1 << 20))]), PackLimits(inflated_bytes=3 << 19, kept_bytes=0))
    assert reading.unread == {"inflated_over_limit": 1}


def test_an_object_that_a_pack_contains_several_times_is_returned_once() -> None:
    reading = read(pack_of([plain("blob", b"same")] * 50 + [plain("blob", b"other")]))
    assert [item.content for item in reading.objects] == [b"same", b"other"]
    assert reading.is_complete

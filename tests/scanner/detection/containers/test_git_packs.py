"""Tests for git packs inside documents."""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Callable

import pytest

from scanner.detection import Detector, Document, Place, sha256_digest
from scanner.detection.containers.git_packs import pack_members
from scanner.detection.containers.members import Container
from scanner.detection.limits import Limits, Meter
from tests.scanner.detection.git.test_packs import delta, header, offset, pack_of, plain, varint

PLACE = Place("file", path="pack")


def oid(content: bytes) -> bytes:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).digest()


def named_delta(base: bytes, result: bytes) -> bytes:
    change = delta(base, result)
    return header(7, len(change)) + oid(base) + zlib.compress(change)


def steps(count: int) -> int:
    """Read a pack of `count` objects, each a delta of the next. Return how many steps of work were counted."""
    contents = [b"%08d" % number for number in range(count)]
    entries = [named_delta(before, after) for before, after in itertools.pairwise(contents)]
    content = pack_of([*reversed(entries), plain("blob", contents[0])])
    meter = Meter(Limits(), len(content))
    members = list(pack_members(Container("pack", content, meter)))
    assert len(members) == count
    assert not meter.unread
    return meter.steps


def test_deltas_before_their_bases_are_linear_work() -> None:
    assert steps(2000) < 2.5 * steps(1000)


def test_a_delta_of_a_delta_whose_base_comes_later_is_read(fresh_token: Callable[[], str]) -> None:
    token = fresh_token().encode()
    first, second = b"a" * 100, b"a" * 100 + b"b"
    waiting = named_delta(first, second)
    change = delta(second, second + token)
    by_offset = header(6, len(change)) + offset(len(waiting)) + zlib.compress(change)
    content = pack_of([waiting, by_offset, plain("blob", first)])
    result = Detector().scan(Document(content, PLACE))
    assert sha256_digest(token) in {candidate.digest for candidate in result.candidates}
    assert not result.unread


def test_delta_commands_of_one_byte_stop_at_the_documents_budget() -> None:
    size = 1 << 20
    change = varint(1) + varint(size) + b"\x90\x01" * size
    entry = header(7, len(change)) + oid(b"x") + zlib.compress(change)
    result = Detector().scan(Document(pack_of([plain("blob", b"x"), entry]), PLACE))
    assert set(result.unread) & {"expansion_ratio", "expanded_bytes"}


def test_a_repeated_object_is_read_once() -> None:
    content = pack_of([plain("blob", b"same")] * 30)
    members = list(pack_members(Container("pack", content, Meter(Limits(), len(content)))))
    assert [member.source for member in members] == [b"same"]


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_packs_of_both_hashes_are_read(hash_name: str, fresh_token: Callable[[], str]) -> None:
    token = fresh_token().encode()
    base, result = b"a" * 100, b"a" * 100 + token
    name = hashlib.new(hash_name, b"blob %d\0" % len(base) + base).digest()
    change = delta(base, result)
    entry = header(7, len(change)) + name + zlib.compress(change)
    body = b"PACK\0\0\0\2\0\0\0\2" + plain("blob", base) + entry
    content = body + hashlib.new(hash_name, body).digest()
    found = Detector().scan(Document(content, PLACE))
    assert [candidate.digest for candidate in found.candidates] == [sha256_digest(token)]
    assert not found.unread

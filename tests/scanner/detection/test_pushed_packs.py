"""Tests for git packs that were pushed."""

from __future__ import annotations

import gzip
import hashlib
import random
import string
import zlib
from collections.abc import Callable, Collection

import pytest

from scanner.detection import Candidate, Detector, ScanBudget, deep_reading, pushed_packs, sha256_digest
from scanner.detection.budgets import SPENT
from scanner.detection.candidate_limits import OVER_LIMIT
from scanner.detection.deep_reading import DeepReading, InProcessReader
from scanner.detection.git import pack_scanning
from scanner.detection.git.pack_codec import object_id
from scanner.detection.git.pack_scanning import PackAnswer, PackRequest, PackScan
from scanner.detection.git.packs import PackLimits
from scanner.detection.limits import Limits
from scanner.detection.pushed_packs import Known, scan_pack
from tests.scanner.detection.git.test_packs import delta, header, pack_of, plain, varint
from tests.scanner.detection.token_encoders import random_token

CHANCE = random.Random(7)
TOKEN = random_token(CHANCE)
LEAK = b"key = '" + TOKEN + b"'\n"
DIGEST = sha256_digest(TOKEN)


class Reader(InProcessReader):
    """Replaces the confined process that reads packs. The first `failures` requests fail."""

    def __init__(self, failures: int = 0, clock: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__(Limits(), clock)
        self.requests: list[PackRequest] = []
        self._failures = failures

    def read_pack(self, content: bytes, request: PackRequest) -> PackAnswer:
        self.requests.append(request)
        if len(self.requests) <= self._failures:
            return PackAnswer(PackScan(), (), 0.5, "reader_died")
        return super().read_pack(content, request)


def pushed(*contents: bytes) -> bytes:
    """Return a git pack with one commit that adds a file for each of these contents."""
    blobs = [object_id("blob", content) for content in contents]
    tree = b"".join(b"100644 file_%d.txt\0" % number + bytes.fromhex(oid) for number, oid in enumerate(blobs))
    head = f"tree {object_id('tree', tree)}\nauthor a <a> 1 +0000\ncommitter a <a> 1000 +0000\n\nx\n".encode()
    entries = [plain("commit", head), plain("tree", tree), *(plain("blob", content) for content in contents)]
    return pack_of(entries)


def scanned(pack: bytes, reader: Reader, budget: ScanBudget | None = None) -> PackScan[Candidate]:
    return scan_pack(Detector(reader=reader), pack, PackLimits(), budget or ScanBudget.for_push())


def digests(scan: PackScan[Candidate]) -> set[str]:
    return {candidate.digest for hit in scan.hits for candidate in hit.found}


COSTLY = {
    "many objects": lambda: pushed(LEAK, *(b"text %d\n" % number for number in range(2_100))),
    "a large object": lambda: pushed(LEAK, bytes(17 << 20)),
    "many bytes in all": lambda: pushed(LEAK, *(bytes([number]) * (3 << 20) for number in range(7))),
    "a large tree": lambda: pack_of(
        [plain("blob", LEAK), plain("tree", b"".join(b"100644 n%06d\0" % n + bytes(20) for n in range(70_000)))]
    ),
    "many objects to open": lambda: pushed(LEAK, *(gzip.compress(b"%d" % number) for number in range(40))),
    "a long pack": lambda: pushed(LEAK, random.Random(1).randbytes(5 << 20)),
}


def test_an_ordinary_pack_needs_no_reader() -> None:
    reader = Reader()
    scan = scanned(pushed(LEAK, *(b"text %d\n" % number for number in range(100))), reader)
    assert (reader.requests, digests(scan), scan.objects, scan.unread) == ([], {DIGEST}, 103, {})
    (hit,) = scan.hits
    where = scan.locations[hit.oid]
    assert (where.path, where.committed_at and where.committed_at.timestamp()) == ("file_0.txt", 1000.0)


@pytest.mark.parametrize("name", COSTLY)
def test_a_pack_that_is_too_costly_for_this_process_is_scanned_by_a_reader(name: str) -> None:
    reader = Reader()
    scan = scanned(COSTLY[name](), reader)
    assert len(reader.requests) == 1
    assert digests(scan) == {DIGEST}
    assert not scan.unread


def test_deltas_above_the_limit_of_this_process_are_left_to_a_reader() -> None:
    base = bytes(1 << 20)
    entries = [plain("blob", base), plain("blob", LEAK)]
    for number in range(32):
        change = varint(len(base)) + varint(len(base) + 1) + b"\xf0\x00\x00\x10" + bytes([1, number])
        entries.append(header(7, len(change)) + bytes.fromhex(object_id("blob", base)) + zlib.compress(change))
    reader = Reader()
    scan = scanned(pack_of(entries), reader)
    assert (len(reader.requests), digests(scan)) == (1, {DIGEST})


def test_a_reader_finds_what_this_process_finds_at_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = pushed(LEAK, gzip.compress(LEAK), b"\n\n" + LEAK, delta(b"a", b"b"))
    here = scanned(pack, Reader())
    monkeypatch.setattr(pushed_packs, "IN_PROCESS", PackLimits(objects=1))
    there = scanned(pack, Reader())
    for scan in (here, there):
        scan.hits.sort(key=lambda hit: hit.oid)
    assert here == there
    assert len(here.hits) == 3


def test_a_pack_that_kills_its_reader_is_scanned_again_for_plain_tokens_only() -> None:
    pack = pushed(*(b"text %d\n" % number for number in range(2_100)), LEAK, gzip.compress(LEAK + b"."))
    reader = Reader(failures=1)
    scan = scanned(pack, reader)
    assert [request.opens for request in reader.requests] == [True, False]
    assert digests(scan) == {DIGEST}
    assert len(scan.hits) == 2, "the object that has to be opened is read by itself"
    dead = scanned(pack, Reader(failures=2))
    assert (dead.unread, dead.hits) == ({"reader_died": 1}, [])
    assert [(one.digest, one.size) for one in dead.not_read] == [(hashlib.sha256(pack).hexdigest(), len(pack))]


class SlowReader(Reader):
    """Replaces the confined process that reads packs. It reports a timeout when its time limit is short."""

    def read(
        self,
        content: bytes,
        name: str,
        *,
        seconds: float | None = None,
        expanded_bytes: int | None = None,
        patience: float | None = None,
    ) -> DeepReading:
        if seconds is not None and 0 < seconds <= deep_reading.QUICK_SECONDS:
            return DeepReading((), {"seconds": 1}, 0, 0.001)
        return super().read(content, name, expanded_bytes=expanded_bytes, patience=patience)


def test_an_object_that_takes_long_to_read_within_its_pack_is_read_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    other = random_token(CHANCE)
    small = [b"text %d\n" % number for number in range(2_100)]
    pack = pushed(gzip.compress(LEAK), gzip.compress(other), *small)
    scan = scanned(pack, SlowReader())
    assert (digests(scan), scan.unread) == ({DIGEST, sha256_digest(other)}, {})
    monkeypatch.setattr(deep_reading, "MAX_DEFERRED", 1)
    scan = scanned(pack, SlowReader())
    assert (digests(scan), scan.unread, len(scan.not_read)) == ({DIGEST}, {"seconds": 1}, 1)


@pytest.mark.parametrize("count", [300, 15_000])
def test_a_flood_of_invented_tokens_hides_no_leak_beside_it(count: int) -> None:
    flood = b"\n".join(random_token(CHANCE) for _ in range(count))
    scan = scanned(pushed(flood, LEAK), Reader())
    assert {candidate.digest for candidate in scan.hits[0].found} == {DIGEST}
    assert sum(len(hit.found) for hit in scan.hits) <= 10_000
    assert bool(scan.unread[OVER_LIMIT] or scan.unread["findings_over_limit"]) is (count > 10_000)


def test_a_flood_hides_no_leak_in_an_object_that_is_read_alone() -> None:
    flood = b"\n".join(random_token(CHANCE) for _ in range(9_000))
    scan = scanned(pushed(flood, gzip.compress(LEAK)), SlowReader())
    assert {candidate.digest for candidate in scan.hits[0].found} == {DIGEST}


def test_a_pack_that_exceeds_its_time_counts_as_unread() -> None:
    ticks = iter(range(1_000_000))
    reader = Reader(clock=lambda: next(ticks) / 100)
    pack = pushed(LEAK, *(b"text %d\n" % number for number in range(2_100)))
    budget = ScanBudget(2.0, 1 << 30, 1_000)
    assert scanned(pack, reader, budget).unread[SPENT] > 0
    assert not budget.has_time
    long = scanned(pack, Reader(clock=lambda: next(ticks) / 100))
    assert long.unread["seconds"] > 0


def test_a_spent_budget_still_finds_plain_tokens() -> None:
    spent = ScanBudget(0.0, 1 << 30, 1_000)
    reader = Reader()
    scan = scanned(
        pushed(LEAK, gzip.compress(b"x"), *(b"text %d\n" % number for number in range(2_100))), reader, spent
    )
    assert [request.opens for request in reader.requests] == [False]
    assert (digests(scan), set(scan.unread)) == ({DIGEST}, {SPENT})


def test_the_scan_of_a_pack_says_which_wanted_objects_the_pack_contains() -> None:
    pack = pushed(LEAK)
    oid = object_id("blob", LEAK)
    scan = scan_pack(Detector(), pack, PackLimits(), ScanBudget.for_push(), wants=(oid, "0" * 40))
    assert scan.reached == {oid}


def flooded(files: int = 90, tokens: int = 64) -> bytes:
    """Return a git pack of small files with more invented tokens than the limit allows."""
    chance = random.Random(3)
    letters = string.ascii_letters + string.digits
    invented = ["r8_" + "".join(chance.choices(letters, k=37)) for _ in range(files * tokens)]
    return pushed(*("\n".join(invented[at : at + tokens]).encode() for at in range(0, len(invented), tokens)))


def looked_up(pack: bytes, known: Known) -> PackScan[Candidate]:
    return scan_pack(Detector(reader=Reader()), pack, PackLimits(), ScanBudget.for_push(), known=known)


def test_a_leak_beyond_the_limit_of_candidates_is_looked_up_and_found() -> None:
    asked: list[int] = []
    real: set[str] = set()

    def known(digests: Collection[str]) -> set[str]:
        asked.append(len(digests))
        real.add(max(digests))
        return {max(digests)}

    scan = looked_up(flooded(), known)
    assert (asked, scan.unknown, scan.unread) == ([760], 759, {})
    (hit,) = [hit for hit in scan.hits if hit.is_confirmed]
    assert {candidate.digest for candidate in hit.found} == real
    assert scan.locations[hit.oid].path.startswith("file_")
    assert len(digests(scan)) == 5_001


def test_tokens_beyond_the_limit_are_counted_if_the_store_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = flooded()
    for scan in (looked_up(pack, lambda _: None), scanned(pack, Reader())):
        assert scan.unread == {"candidates_over_limit": 760}
        assert len(digests(scan)) == 5_000
    monkeypatch.setattr(pack_scanning, "MAX_BEYOND", 700)
    assert looked_up(pack, lambda _: ()).unread == {"candidates_over_limit": 60}
    monkeypatch.setattr(pushed_packs, "LOOK_UP_SECONDS", -1.0)
    assert looked_up(pack, lambda _: ()).unread == {"candidates_over_limit": 760}

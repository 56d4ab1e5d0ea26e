"""Tests that plain tokens are still found after a limit on the cost of several documents is reached."""

from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Callable

import pytest

from scanner.detection import Candidate, Detector, Document, Place, costly_contents, sha256_digest
from scanner.detection.budgets import SPENT, ScanBudget
from scanner.detection.costly_contents import CostlyContents, KnownContent

FILE = Place("file", path="a.py")


@pytest.fixture
def detector() -> Detector:
    return Detector()


def budget() -> ScanBudget:
    return ScanBudget(seconds=100.0, work=1 << 30, findings=1000)


def test_a_spent_budget_leaves_containers_unread_and_still_finds_plain_tokens(
    detector: Detector, fresh_token: Callable[[], str]
) -> None:
    token = fresh_token().encode()
    spent = budget()
    spent.spend(seconds=100.0)
    assert spent.is_spent
    packed = detector.scan(Document(gzip.compress(b"x = " + token), FILE), spent)
    assert (packed.candidates, packed.unread) == ((), {SPENT: 1})
    encoded = detector.scan(Document(base64.b64encode(gzip.compress(b"x = " + token)), FILE), spent)
    assert (encoded.candidates, encoded.unread) == ((), {SPENT: 1})
    plain = detector.scan(Document(b"x = '" + token + b"'\n", FILE), spent)
    assert [one.digest for one in plain.candidates] == [sha256_digest(token)]
    assert plain.candidates[0].place == FILE
    assert plain.unread == {}


def test_within_its_budget_a_document_is_read_as_without_one(
    detector: Detector, fresh_token: Callable[[], str]
) -> None:
    content = gzip.compress(f"x = '{fresh_token()}'".encode())
    within = detector.scan(Document(content, FILE), budget())
    assert within == detector.scan(Document(content, FILE))
    assert within.candidates


def test_the_cost_of_a_document_is_taken_from_its_group_too(detector: Detector, fresh_token: Callable[[], str]) -> None:
    inner = budget()
    content = gzip.compress(f"x = '{fresh_token()}'".encode() + b" " * 10_000)
    detector.scan(Document(content, FILE), inner)
    left = inner.remaining()
    assert left.findings == 999
    assert left.work <= (1 << 30) - 10_000
    assert left.seconds < 100.0


def test_a_document_gets_no_more_than_the_rest_of_its_groups_budget(detector: Detector) -> None:
    budget_here = ScanBudget(seconds=100.0, work=100_000, findings=1000)
    bomb = gzip.compress(bytes(1_000_000))
    first = detector.scan(Document(bomb, FILE), budget_here)
    assert first.unread == {"expanded_bytes": 1}
    assert budget_here.is_spent
    assert detector.scan(Document(bomb + b"\0", FILE), budget_here).unread == {SPENT: 1}


def test_a_costly_content_that_occurs_again_costs_nothing(
    detector: Detector, fresh_token: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanner.detection.detector.is_costly", lambda *_: True)
    budget_here = budget()
    content = gzip.compress(f"x = '{fresh_token()}'".encode())
    first = detector.scan(Document(content, FILE), budget_here)
    left = budget_here.remaining()
    elsewhere = Place("gist", path="other/a.py")
    again = detector.scan(Document(content, elsewhere), budget_here)
    assert budget_here.remaining() == left
    assert [(one.digest, one.line, one.container) for one in again.candidates] == [
        (one.digest, one.line, one.container) for one in first.candidates
    ]
    assert {one.place for one in again.candidates} == {elsewhere}


def test_a_large_content_is_cached_only_if_its_scan_takes_longer_than_its_digest() -> None:
    second = 1.0
    assert costly_contents.is_costly(1 << 20, second)
    assert not costly_contents.is_costly(512 << 20, second)
    assert costly_contents.is_costly(512 << 20, 3 * second)
    assert not costly_contents.is_costly(1 << 10, second / 20)


def test_the_cache_of_costly_contents_has_a_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costly_contents, "MAX_CONTENTS", 2)
    known, held = CostlyContents(), KnownContent((), {}, 0)
    for digest in (b"1", b"2", b"3"):
        known.remember(digest, 1, held)
    assert [known.recall(digest) is held for digest in (b"1", b"2", b"3")] == [False, True, True]


def test_a_content_with_many_tokens_is_not_remembered() -> None:
    known = CostlyContents()
    candidate = Candidate("0" * 64, "r8_Ab1…xyz9", FILE)
    known.remember(b"1", 1, KnownContent((candidate,) * (costly_contents.MAX_CANDIDATES + 1), {}, 0))
    assert known.recall(b"1") is None


def test_a_push_spends_the_budget_of_its_page_and_knows_if_other_pushes_have_spent_it() -> None:
    page = ScanBudget(seconds=10.0, work=100, findings=100)
    greedy, other = (ScanBudget(seconds=8.0, work=80, findings=80, within=page) for _ in range(2))
    greedy.spend(seconds=9.0)
    assert (greedy.is_spent, greedy.is_spent_by_others) == (True, False)
    assert other.remaining().seconds == pytest.approx(1.0)
    page.spend(seconds=2.0)
    assert (other.is_spent, other.is_spent_by_others) == (True, True)


def test_threads_that_spend_at_once_lose_nothing() -> None:
    budget_here = ScanBudget(seconds=1.0, work=8_000, findings=1)

    def spend() -> None:
        for _ in range(999):
            budget_here.spend(work=1)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget_here.remaining().work == 8

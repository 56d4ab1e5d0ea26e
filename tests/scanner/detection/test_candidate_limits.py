"""Tests for the limits on the number of possible tokens in one push."""

from __future__ import annotations

import pytest

from scanner.detection import Candidate, Place, candidate_limits
from scanner.detection.candidate_limits import CandidateLimits


def found(*digests: str) -> list[Candidate]:
    return [Candidate(digest, "", Place("file", path=f"{number}.py")) for number, digest in enumerate(digests)]


def test_tokens_beyond_the_limit_are_counted_and_further_places_of_kept_tokens_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(candidate_limits, "MAX_DIGESTS", 2)
    limits = CandidateLimits()
    kept = limits.take(found("a", "b", "c", "a"))
    assert [one.digest for one in kept] == ["a", "b", "a"]
    assert limits.over == {"candidates_over_limit": 1}


def test_further_places_of_one_token_are_counted_over_all_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_limits, "MAX_PLACES", 3)
    limits = CandidateLimits()
    kept = [*limits.take(found("a", "a")), *limits.take(found("a", "a", "b"))]
    assert [one.digest for one in kept] == ["a", "a", "a", "b"]
    assert limits.over == {"places_over_limit": 1}


def test_the_number_of_all_places_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_limits, "MAX_CANDIDATES", 2)
    limits = CandidateLimits()
    assert len(limits.take(found("a", "b", "b", "c"))) == 2
    assert limits.over == {"candidates_over_limit": 1, "places_over_limit": 1}

"""Tests that each kind of problem is documented and has a key."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from workers.health.problems import PAGE, Kind, Problem, counted, span

ROOT = Path(__file__).parents[3]


def test_each_kind_has_a_section_that_says_what_to_do_in_the_order_of_urgency() -> None:
    text = (ROOT / PAGE).read_text()
    assert re.findall("^## (.*)$", text, re.M) == [kind.replace("_", "-") for kind in Kind]
    assert text.count("**Do:**") == len(Kind)


def test_a_problem_keeps_its_key_while_its_words_change() -> None:
    first = Problem(Kind.JOBS_WAIT, "waited for 11 minutes", "add workers", subject="pushes")
    later = Problem(Kind.JOBS_WAIT, "waited for 12 minutes", "add workers", subject="pushes")
    assert first.key == later.key == "jobs_wait:pushes"
    assert Problem(Kind.REDIS_AWAY, "a", "b").key == "redis_away"


def test_a_problem_is_one_json_object_with_its_page() -> None:
    at = datetime(2026, 11, 30, tzinfo=UTC)
    assert Problem(Kind.REDIS_AWAY, "Redis does not answer", "start it", at).as_json() == {
        "kind": "redis_away",
        "subject": None,
        "sentence": "Redis does not answer",
        "todo": "start it",
        "since": "2026-11-30T00:00:00+00:00",
        "docs": "docs/problems.md#redis-away",
    }


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "3 s"), (119, "119 s"), (120, "2 minutes"), (7200, "2 hours"), (172_800, "2 days")]
)
def test_a_duration_is_shown_in_the_largest_unit_of_which_it_has_two(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_a_number_agrees_with_its_noun() -> None:
    assert (counted(1, "rule"), counted(2, "rule"), counted(1200, "entry", "entries")) == (
        "1 rule",
        "2 rules",
        "1,200 entries",
    )

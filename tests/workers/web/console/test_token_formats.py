"""Tests that the console recognises the tokens of every active format."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scanner.detection.patterns.token_formats import DEFAULT_FORMATS, parse_formats, use_formats
from scanner.records.models import Incident
from workers.web.console import rendering
from workers.web.console.queries.searching import is_repository, search
from workers.web.console.rendering import visible

TOKEN = "acme-" + "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def _other_format() -> Iterator[None]:
    use_formats(parse_formats("acme-[a-f0-9]{32}"))
    yield
    use_formats(DEFAULT_FORMATS)


def test_a_token_in_a_name_is_masked() -> None:
    assert visible("an ordinary/name") == "an ordinary/name"
    shown = visible(f"folder/{TOKEN}.txt")
    assert TOKEN not in shown
    assert "acme-012" in shown


def test_a_hint_is_shown_unchanged_without_a_search_for_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rendering, "clean")
    assert visible("acme-012…cdef") == "acme-012…cdef"


def test_a_search_for_the_beginning_of_a_token_compares_hints() -> None:
    (condition,) = search("acme-012")
    assert condition.compare(Incident.hint.like("acme-012%", escape="\\"))
    assert not is_repository("acme-012/")

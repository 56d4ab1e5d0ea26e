"""Tests for the JSON parser. If Python's parser refuses one value, the other values are still read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.github import hostile_json
from scanner.github.hostile_json import MAX_LEVELS, parse_json

DEEP = b'{"a":[' * 5_000 + b'"]}"' + b"]}" * 5_000


def test_a_value_nested_too_deep_becomes_null_and_others_are_kept() -> None:
    first, deep, last = parse_json(b'[{"id": "1\\"["}, ' + DEEP + b', {"id": "3"}]')
    assert (first, last) == ({"id": '1"['}, {"id": "3"})
    levels = 0
    while deep is not None:
        deep = deep["a"] if isinstance(deep, dict) else deep[0]
        levels += 1
    assert levels == MAX_LEVELS - 1, "the list around the value is the first level"


def test_values_that_the_parser_accepts_are_kept_at_every_level() -> None:
    value = parse_json(b"[" * 300 + b"]" * 300)
    for _ in range(299):
        (value,) = value
    assert value == []


@pytest.mark.parametrize("number", [b"9" * 5_000, b"-" + b"9" * 5_000])
def test_a_number_of_too_many_digits_becomes_null(number: bytes) -> None:
    assert parse_json(b'[{"id": 1, "push_id": ' + number + b'}, {"id": -2}]') == [
        {"id": 1, "push_id": None},
        {"id": -2},
    ]


def test_bytes_that_are_not_text_do_not_hide_the_rest() -> None:
    assert parse_json(b'[{"body": "\xff"}, {"body": "b"}]') == [{"body": "\ufffd"}, {"body": "b"}]


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b"]" * 200_000, b"[" * 5_000 + b'"' + b"]" * 5_000, DEEP + b"]", DEEP + b'"\\', b"", b"{"]
)
def test_text_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(body)


def test_a_body_of_too_many_brackets_is_refused_and_not_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile_json, "MAX_BRACKETS", 19_000)
    with pytest.raises(ValueError, match="too large"):
        parse_json(DEEP)


@given(st.recursive(st.one_of(st.none(), st.text()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_values_beside_one_that_is_too_deep_are_read_unchanged(value: object) -> None:
    body = b'{"value": ' + json.dumps(value).encode() + b', "deep": ' + DEEP + b"}"
    assert parse_json(body)["value"] == value

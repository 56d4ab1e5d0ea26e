"""What hostile strings become before anybody reads them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.email.wording import clean, duration_words, safe_link, shorten, time_words, wrap


@pytest.mark.parametrize(
    "hostile",
    [
        *("two\nlines", "two\r\nBcc: all@example.com", "tab\there", "nul\0", "bell\a", "esc\x1b[31m"),
        *(
            "\u202egnp.exe",
            "\u2066isolate",
            "line\u2028separator",
            "zero\u200bwidth",
            "soft\u00adhyphen",
            "tag\U000e0041",
        ),
        "blank\u3164letter",
    ],
)
def test_what_hides_or_breaks_lines_becomes_visible(hostile: str) -> None:
    assert clean(hostile).isprintable()
    assert "\N{REPLACEMENT CHARACTER}" in clean(hostile)


def test_names_of_people_and_scripts_stay_as_they_are() -> None:
    for name in ("weather-bot", "Übersicht", "天気", "नमस्ते", "می‌خواهم", "👩‍💻 laptop", "שלום"):
        assert clean(name) == name


def test_a_token_is_masked_even_when_hidden_characters_or_cuts_held_it_apart(fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    for text in (token, f"a/{token}/b", f"{'x' * 500}{token}{'y' * 500}", f"\u200b{token}\u200b"):
        assert token not in clean(text, 10_000)
        assert token not in clean(text, 60)


def test_a_long_path_keeps_both_ends() -> None:
    short = shorten("start/" + "x" * 10_000 + "/end.py", 60)
    assert len(short) == 60
    assert short.startswith("start/")
    assert short.endswith("/end.py")


@given(st.text(max_size=300), st.integers(min_value=3, max_value=120))
def test_anything_becomes_one_bounded_line(text: str, longest: int) -> None:
    line = clean(text, longest)
    assert len(line) <= longest
    assert len(line.splitlines()) <= 1
    line.encode("utf-8")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "javascript:alert(1)",
            "data:text/html,x",
            "https://user:pw@github.com/",
            "https://user@github.com/",
            "//x.y/",
        ),
        *("https:///path", "https://github.com\u202e/x", "https://gïthub.com/", "https://github.com/" + "x" * 2000),
        *("https://github.com:99999/", "https://a b/", ""),
    ],
)
def test_what_is_no_plain_public_address_is_no_link(url: str) -> None:
    assert safe_link(url) is None


def test_a_link_holds_no_character_that_could_leave_its_attribute() -> None:
    link = safe_link('https://github.com/a/b/blob/c/"><script>\n\u202e ü.py#L3')
    assert link == "https://github.com/a/b/blob/c/%22%3E%3Cscript%3E%0A%E2%80%AE%20%C3%BC.py#L3"
    assert safe_link("http://127.0.0.1:8000/a%20b") == "http://127.0.0.1:8000/a%20b"


def test_a_link_never_carries_a_token(fresh_token: Callable[[], str]) -> None:
    assert safe_link(f"https://github.com/acme/{fresh_token()}") is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "less than a second"), (0.9, "less than a second"), (1, "1 second"), (61, "1 minute 1 second")),
        *((3600, "1 hour"), (3601, "1 hour"), (90061, "1 day 1 hour"), (86400 * 400, "400 days")),
    ],
)
def test_durations_are_told_in_their_two_largest_units(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words


def test_times_are_told_in_utc() -> None:
    moment = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert time_words(moment) == "28 February 2026, 22:30:00 UTC"


def test_lines_are_wrapped_but_addresses_stay_whole() -> None:
    address = "https://vendor.example/" + "x" * 100
    lines = wrap(f"{'word ' * 20}{address}", "1. ", "   ").splitlines()
    assert lines[0].startswith("1. word")
    assert lines[-1] == f"   {address}"
    assert all(len(line) <= 74 for line in lines[:-1])

"""Tests that hostile strings are cleaned before a mail shows them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.email.wording import clean, duration_words, safe_link, shorten, time_words, wrap

WEB = "https://github.com"
FILE = f"{WEB}/ana/app/blob/{'c' * 40}/"


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
def test_invisible_characters_and_line_breaks_become_visible(hostile: str) -> None:
    assert clean(hostile).isprintable()
    assert "\N{REPLACEMENT CHARACTER}" in clean(hostile)


def test_names_of_people_and_scripts_stay_as_they_are() -> None:
    for name in ("weather-bot", "Übersicht", "天気", "नमस्ते", "می‌خواهم", "👩‍💻 laptop", "שלום"):
        assert clean(name) == name


def test_a_token_split_by_hidden_characters_or_cuts_is_masked(fresh_token: Callable[[], str]) -> None:
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
def test_any_text_becomes_one_line_of_limited_length(text: str, longest: int) -> None:
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
def test_an_address_that_is_not_plain_and_public_is_not_linked(url: str) -> None:
    assert safe_link(url, WEB, "file") is None


def test_a_link_contains_no_character_that_could_end_it_early() -> None:
    link = safe_link(f'{FILE}"><script>,(https:x)\u202eü.py#L3', WEB, "file")
    assert link == f"{FILE}%22%3E%3Cscript%3E%2C%28https%3Ax%29%E2%80%AE%C3%BC.py#L3"
    web_url = "http://127.0.0.1:8000"
    assert safe_link(f"{web_url}/a/b/commit/{'c' * 40}", web_url, "commit") == f"{web_url}/a/b/commit/{'c' * 40}"


def test_a_link_never_contains_a_token(fresh_token: Callable[[], str]) -> None:
    assert safe_link(f"{FILE}{fresh_token()}", WEB, "file") is None


@pytest.mark.parametrize("kind", ["file", "commit", "issue", "gist", "other", "package"])
@pytest.mark.parametrize(
    "url",
    [
        *("https://evil.example/", "http://github.com/a/b/commit/" + "c" * 40, "https://github.com.evil.example/a/b"),
        *(f"{FILE}x?y", f"{FILE}x#evil.com", f"{FILE}../../../../login", f"{FILE}%2e%2e/x", f"{FILE}a\\b"),
        *(FILE.replace("github.com", "github.com:8443"), FILE.replace("github.com", "github.com:443")),
        *(f"{WEB}/login/oauth/authorize", f"{WEB}/a/b/releases/download/v1/x.exe", f"{WEB}/a/b/raw/main/x.html"),
    ],
)
def test_a_place_links_only_to_a_page_of_its_content(url: str, kind: str) -> None:
    assert safe_link(url, WEB, kind) is None


def test_only_a_place_that_r8scan_read_links_to_a_conversation() -> None:
    for url in (f"{WEB}/ana/app/issues/41#issuecomment-2214", f"{WEB}/ana/app/discussions/7", f"{WEB}/ana/app"):
        assert safe_link(url, WEB, "issue_comment") == url
        assert safe_link(url, WEB, "other") is None
    gist = "https://gist.github.com/ana/0a1b"
    assert safe_link(gist, WEB, "other") == gist
    assert safe_link(f"{FILE}x#L3-L7", WEB, "other") == f"{FILE}x#L3-L7"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "less than a second"), (0.9, "less than a second"), (1, "1 second"), (61, "1 minute 1 second")),
        *((3600, "1 hour"), (3601, "1 hour"), (90061, "1 day 1 hour"), (86400 * 400, "400 days")),
    ],
)
def test_durations_are_shown_in_their_two_largest_units(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words


def test_times_are_shown_in_utc() -> None:
    moment = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert time_words(moment) == "28 February 2026, 22:30:00 UTC"


def test_lines_are_wrapped_but_addresses_stay_whole() -> None:
    address = "https://vendor.example/" + "x" * 100
    lines = wrap(f"{'word ' * 20}{address}", "1. ", "   ").splitlines()
    assert lines[0].startswith("1. word")
    assert lines[-1] == f"   {address}"
    assert all(len(line) <= 74 for line in lines[:-1])

"""Tests for GitHub URLs that a user pastes. Any other text is refused with a helpful line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.github.addresses import Target, parse_address
from scanner.github.urls import is_own_page, is_repository_name

WEB, API = "https://github.com", "https://api.github.com"
SHA, OTHER = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("https://github.com/ana", Target("owner", "ana")),
        ("https://github.com/orgs/ana/repositories", Target("owner", "ana")),
        ("https://github.com/ana/app", Target("repository", "ana/app")),
        ("https://www.github.com/ana/app/", Target("repository", "ana/app")),
        ("https://github.com/ana/app.git", Target("repository", "ana/app")),
        ("git@github.com:ana/app.git", Target("repository", "ana/app")),
        ("ssh://git@github.com/ana/app.git", Target("repository", "ana/app")),
        ("https://user:pw@github.com/ana/app", Target("repository", "ana/app")),
        (f"https://github.com/ana/app/blob/{SHA}/src/a%20b.py#L3", Target("repository", "ana/app")),
        ("https://github.com/ana/app/issues/7#issuecomment-1", Target("repository", "ana/app")),
        ("https://github.com/ana/app/pull/7/files?x=1", Target("repository", "ana/app")),
        (f"https://github.com/ana/app/commit/{SHA}", Target("commit", "ana/app", head=SHA)),
        (f"https://github.com/ana/app/compare/{SHA}...{OTHER}", Target("push", "ana/app", SHA, OTHER)),
        ("https://github.com/ana/app/compare/main...dev", Target("repository", "ana/app")),
        (f"https://raw.githubusercontent.com/ana/app/{SHA}/x.py", Target("repository", "ana/app")),
        ("https://api.github.com/repos/ana/app/commits", Target("repository", "ana/app")),
        ("https://gist.github.com/ana/0123abcd", Target("gist", "0123abcd")),
        ("github.com/ana/app", Target("repository", "ana/app")),
        (" www.github.com/ana ", Target("owner", "ana")),
        ("<https://github.com/ana/app>.", Target("repository", "ana/app")),
        ("git clone https://github.com/ana/app.git", Target("repository", "ana/app")),
        ("git+https://github.com/ana/app.git", Target("repository", "ana/app")),
        ("git://github.com/ana/app.git", Target("repository", "ana/app")),
        ("org-1234@github.com:ana/app.git", Target("repository", "ana/app")),
        ("ssh://git@github.com:22/ana/app", Target("repository", "ana/app")),
        ("ssh://git@ssh.github.com:443/ana/app.git", Target("repository", "ana/app")),
        ("https://github.com/ana/app/tree/main/src", Target("repository", "ana/app")),
        ("gist.github.com/ana/0123abcd", Target("gist", "0123abcd")),
        ("https://api.github.com/gists/0123abcd/comments", Target("gist", "0123abcd")),
        ("api.github.com/repos/ana/app/issues/1", Target("repository", "ana/app")),
        ("https://gist.github.com/0123abcd.git", Target("gist", "0123abcd")),
        ("https://gist.githubusercontent.com/ana/0123abcd/raw/x", Target("gist", "0123abcd")),
    ],
)
def test_an_address_has_the_target_that_it_shows(address: str, target: Target) -> None:
    assert parse_address(address, WEB, API) == target


def test_an_enterprise_server_has_its_api_below_its_own_address() -> None:
    web, api = "https://git.example", "https://git.example/api/v3"
    assert parse_address("git.example/api/v3/repos/ana/app", web, api) == Target("repository", "ana/app")
    assert parse_address("https://git.example/api/v3/gists/0123abcd", web, api) == Target("gist", "0123abcd")
    assert parse_address("https://git.example/ana/app", web, api) == Target("repository", "ana/app")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ana/app",
        "example.com/ana/app",
        "https://api.github.com/gists/public",
        "https://example.com/ana/app",
        "https://github.com.evil.example/ana/app",
        "https://github.com/",
        "https://github.com/settings/tokens",
        "https://github.com/search?q=x",
        "https://gist.github.com/ana",
        "https://github.com/ana/..%2f..",
        "https://api.github.com/users/ana",
    ],
)
def test_an_address_without_a_target_is_a_one_line_error(address: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_address(address, WEB, API)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_addresses_below_the_configured_web_and_api_addresses_are_understood() -> None:
    web, api = "http://127.0.0.1:8000", "http://127.0.0.1:8000/api"
    assert parse_address(f"{web}/ana/app", web, api) == Target("repository", "ana/app")
    assert parse_address(f"{api}/repos/ana/app", web, api) == Target("repository", "ana/app")
    assert parse_address(f"{web}/gist/0123", web, api) == Target("gist", "0123")


@given(st.text(max_size=120) | st.text("/:.@gistab0", max_size=40).map(lambda text: f"https://github.com/{text}"))
def test_any_text_is_refused_or_gives_a_valid_name(text: str) -> None:
    try:
        target = parse_address(text, WEB, API)
    except ValueError:
        return
    assert target.kind not in ("repository", "commit", "push") or is_repository_name(target.name)


@pytest.mark.parametrize(
    ("url", "is_own"),
    [
        ("https://github.com/ana/app", True),
        ("https://gist.github.com/ana/1", True),
        ("http://github.com/ana/app", False),
        ("https://github.com.evil.example/", False),
        ("https://github.com@evil.example/", False),
        ("javascript:alert(1)", False),
        ("https://github.com/\n<b>", False),
        ("https://github.com/" + "a" * 5000, False),
        ("https://[", False),
        ("https://[a]b/ana/app", False),
        (None, False),
    ],
)
def test_only_pages_of_this_github_are_shown(url: object, is_own: bool) -> None:
    assert is_own_page(WEB, url) is is_own

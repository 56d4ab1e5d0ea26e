"""Tests for the GitHub client."""

from __future__ import annotations

import base64
import gzip
import itertools
import time
import traceback
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from scanner.github import client as client_module
from scanner.github.circuits import CANNOT_BE_REACHED
from scanner.github.client import GitHub, check_status, connect, get_json
from scanner.github.errors import (
    BadCredential,
    Forbidden,
    GitHubError,
    Malformed,
    NotFound,
    RateLimited,
    Unavailable,
)
from tests.scanner.github.requesting import API, SECRET, WEB

NONE_LEFT = {"x-ratelimit-remaining": "0"}


@pytest.fixture
def client() -> Iterator[GitHub]:
    connected = connect(API, WEB, SECRET)
    yield connected
    connected.close()


def error_of(status: int, headers: dict[str, str], body: bytes = b"") -> GitHubError:
    response = httpx.Response(status, headers=headers, request=httpx.Request("GET", f"{API}/x"))
    with pytest.raises(GitHubError) as caught:
        check_status(response, body, "R8SCAN_GITHUB_TOKEN")
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "reason"),
    [
        (300, b"", {}, GitHubError, "http_300"),
        (401, b"", {}, BadCredential, "bad_credential"),
        (403, b"", {}, Forbidden, "forbidden"),
        (403, b"", {"retry-after": "5"}, RateLimited, "rate_limited"),
        (403, b"", {"x-ratelimit-remaining": "0"}, RateLimited, "rate_limited"),
        (403, b"You have exceeded a secondary rate limit.", {}, RateLimited, "rate_limited"),
        (404, b"", {}, NotFound, "not_found"),
        (406, b"", {}, GitHubError, "http_406"),
        (403, b"Repository access blocked", {}, NotFound, "blocked"),
        (408, b"", {}, Unavailable, "http_408"),
        (409, b"", {}, NotFound, "empty"),
        (410, b"", {}, NotFound, "not_found"),
        (422, b"", {}, GitHubError, "http_422"),
        (429, b"", {}, RateLimited, "rate_limited"),
        (451, b"", {}, NotFound, "blocked"),
        (500, b"", {}, Unavailable, "http_500"),
        (503, b"", {}, Unavailable, "http_503"),
    ],
)
def test_each_status_has_one_meaning(
    status: int, body: bytes, headers: dict[str, str], kind: type[GitHubError], reason: str
) -> None:
    found = error_of(status, headers, body)
    assert (type(found), found.reason) == (kind, reason)


@pytest.mark.parametrize("status", [200, 204])
def test_a_success_raises_nothing(status: int) -> None:
    check_status(httpx.Response(status, request=httpx.Request("GET", API)), b"", "none")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 60),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 1),
        ({"retry-after": "99999999999"}, 3600),
        ({"retry-after": "-5"}, 60),
        ({"retry-after": "soon"}, 60),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:30 GMT", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 90),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:00 GMT", "date": "Thu, 01 Jan 2026 00:00:30 GMT"}, 1),
        (
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767225700", "date": "Thu, 01 Jan 2026 00:00:00 GMT"},
            100,
        ),
        ({**NONE_LEFT, "x-ratelimit-reset": "nan"}, 60),
        ({**NONE_LEFT, "x-ratelimit-reset": "1e400"}, 60),
        ({**NONE_LEFT, "x-ratelimit-reset": "999999999999"}, 3600),
        ({"x-ratelimit-remaining": "7", "x-ratelimit-reset": "1767225700"}, 60),
    ],
)
def test_a_limit_says_how_long_to_wait_and_never_more_than_an_hour(headers: dict[str, str], seconds: float) -> None:
    assert error_of(429, headers).retry_after == seconds


def test_without_a_date_header_our_own_clock_measures_the_wait() -> None:
    soon = formatdate(time.time() + 300, usegmt=True)
    assert 200 < (error_of(503, {"retry-after": soon}).retry_after or 0) <= 300


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40))
def test_no_header_makes_the_reading_of_limits_fail(value: str) -> None:
    names = (b"retry-after", b"x-ratelimit-reset", b"date")
    headers = [(b"x-ratelimit-remaining", b"0"), *((name, value.encode("latin-1")) for name in names)]
    response = httpx.Response(429, headers=headers, request=httpx.Request("GET", API))
    with pytest.raises(RateLimited) as caught:
        check_status(response, b"", "none")
    assert 1 <= (caught.value.retry_after or 0) <= 3600


@respx.mock
def test_the_api_gets_bearer_git_gets_basic_and_other_hosts_get_no_credential(client: GitHub) -> None:
    route = respx.route(url__regex=".*").mock(return_value=httpx.Response(200, json={}))
    client.http.get(f"{API}/events")
    client.http.get(f"{WEB}/ana/app.git/info/refs")
    sent = [call.request.headers["Authorization"] for call in route.calls]
    assert sent == [f"Bearer {SECRET}", "Basic " + base64.b64encode(f"x-access-token:{SECRET}".encode()).decode()]
    for address in (
        "https://github.com.evil.example/x",
        "https://api.github.com@evil.example/x",
        "http://api.github.com/x",
        "https://api.github.com:8443/x",
        "https://uploads.github.com/x",
        "http://169.254.169.254/latest",
    ):
        with pytest.raises(Malformed, match="unknown host"):
            client.http.get(address)
    assert route.call_count == 2


@respx.mock
@pytest.mark.parametrize(
    "target",
    ["https://evil.example/x", "http://api.github.com/x", "https://api.github.com:444/x", "file:///etc/passwd"],
)
def test_a_redirect_to_another_origin_is_refused_at_every_hop(client: GitHub, target: str) -> None:
    respx.get(f"{API}/first").mock(return_value=httpx.Response(302, headers={"location": f"{API}/second"}))
    respx.get(f"{API}/second").mock(return_value=httpx.Response(302, headers={"location": target}))
    elsewhere = respx.get(target).mock(return_value=httpx.Response(200, json={}))
    with pytest.raises(Malformed) as caught:
        get_json(client, f"{API}/first", expected=dict)
    assert caught.value.reason in ("unknown_host", "unusable_address")
    assert not elsewhere.called


@respx.mock
def test_a_redirect_between_our_two_hosts_carries_no_credential(client: GitHub) -> None:
    respx.get(f"{API}/first").mock(return_value=httpx.Response(302, headers={"location": f"{WEB}/second"}))
    second = respx.get(f"{WEB}/second").mock(return_value=httpx.Response(200, json={}))
    assert get_json(client, f"{API}/first", expected=dict)[1] == {}
    assert "authorization" not in second.calls.last.request.headers


@respx.mock
def test_redirects_in_circles_end(client: GitHub) -> None:
    route = respx.get(f"{API}/x").mock(return_value=httpx.Response(301, headers={"location": f"{API}/x"}))
    with pytest.raises(Unavailable, match="circles"):
        get_json(client, f"{API}/x", expected=dict)
    assert route.call_count < 10


@respx.mock
def test_an_address_in_capitals_gets_its_credential_as_well() -> None:
    shouted = connect("https://API.GitHub.com:443", "https://GITHUB.com", SECRET)
    route = respx.get(f"{API}/x").mock(return_value=httpx.Response(200, json={}))
    get_json(shouted, "https://API.GitHub.com:443/x", expected=dict)
    assert route.calls.last.request.headers["authorization"] == f"Bearer {SECRET}"
    shouted.close()


@respx.mock
def test_without_a_credential_no_authorization_header_is_sent() -> None:
    anonymous = connect(API, WEB, None)
    route = respx.get(f"{API}/x").mock(return_value=httpx.Response(200, json=[]))
    get_json(anonymous, f"{API}/x", expected=list)
    assert "authorization" not in route.calls.last.request.headers
    anonymous.close()


@respx.mock
@pytest.mark.parametrize(
    ("content", "headers", "kind"),
    [
        (b"{", {}, Malformed),
        (b"", {}, Malformed),
        (b"<html>", {}, Malformed),
        (b"[]", {}, Malformed),
        (b"\xff\xfe\x00", {}, Malformed),
        (b"not gzip", {"content-encoding": "gzip"}, Unavailable),
        (gzip.compress(b'{"a": 1}' * 1000, mtime=0)[:30], {"content-encoding": "gzip"}, Unavailable),
        (b"[" * 200_000, {}, Malformed),
    ],
)
def test_each_unusable_body_has_a_reason(
    client: GitHub, content: bytes, headers: dict[str, str], kind: type[GitHubError]
) -> None:
    stream = httpx.ByteStream(content)
    respx.get(f"{API}/x").mock(return_value=httpx.Response(200, stream=stream, headers=headers))
    with pytest.raises(kind):
        get_json(client, f"{API}/x", expected=dict)


@respx.mock
def test_a_body_over_the_limit_is_not_read_to_its_end(client: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_JSON_BYTES", 1 << 20)
    given_out = itertools.count(1)

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while next(given_out) < 10_000:
                yield bytes(64 * 1024)

    respx.get(f"{API}/x").mock(return_value=httpx.Response(200, stream=Endless()))
    with pytest.raises(Malformed) as caught:
        get_json(client, f"{API}/x", expected=dict)
    assert caught.value.reason == "too_large"
    assert next(given_out) < 20


@respx.mock
def test_an_answer_that_arrives_byte_by_byte_has_one_deadline(client: GitHub) -> None:
    class Dripping(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from (b" " for _ in range(100_000))

    respx.get(f"{API}/x").mock(return_value=httpx.Response(200, stream=Dripping()))
    clock = itertools.count(0.0, 10.0)
    with pytest.raises(Unavailable) as caught:
        get_json(client, f"{API}/x", expected=dict, clock=lambda: next(clock))
    assert caught.value.reason == "too_slow"
    assert next(clock) < 200


@respx.mock
@pytest.mark.parametrize(
    "failure",
    [httpx.ConnectError(SECRET), httpx.ReadTimeout(SECRET), httpx.RemoteProtocolError(SECRET), httpx.PoolTimeout("x")],
)
def test_a_broken_exchange_is_transient_and_shows_no_secret(client: GitHub, failure: Exception) -> None:
    respx.get(f"{API}/x").mock(side_effect=failure)
    with pytest.raises(Unavailable) as caught:
        get_json(client, f"{API}/x", expected=dict)
    assert SECRET not in str(caught.value)
    assert str(caught.value).startswith(f"{API.removeprefix('https://')} {CANNOT_BE_REACHED} (")


@respx.mock
@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_no_error_and_no_repr_contains_the_credential(client: GitHub, status: int) -> None:
    route = respx.get(f"{API}/x").mock(return_value=httpx.Response(status))
    with pytest.raises(GitHubError) as caught:
        get_json(client, f"{API}/x", expected=dict)
    parts: list[Any] = [
        client,
        client.http,
        client.http.auth,
        route.calls.last.request,
        caught.value,
        caught.value.__dict__,
    ]
    told = "".join(map(repr, parts)) + "".join(traceback.format_exception(caught.value))
    encoded = base64.b64encode(f"x-access-token:{SECRET}".encode()).decode()
    assert SECRET not in told
    assert encoded not in told


@respx.mock
def test_an_unchanged_answer_has_no_body(client: GitHub) -> None:
    route = respx.get(f"{API}/x").mock(return_value=httpx.Response(304))
    assert get_json(client, f"{API}/x", etag='W/"1"', expected=list)[1] is None
    assert route.calls.last.request.headers["if-none-match"] == 'W/"1"'


@respx.mock
def test_status_304_without_an_etag_is_an_error(client: GitHub) -> None:
    respx.get(f"{API}/x").mock(return_value=httpx.Response(304))
    with pytest.raises(Malformed) as caught:
        get_json(client, f"{API}/x", expected=list)
    assert caught.value.reason == "not_modified"

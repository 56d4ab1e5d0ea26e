"""Tests that the GitHub client retries failed requests, but sends none to a host that keeps failing."""

from __future__ import annotations

import gzip
import itertools
import random
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import respx
import stamina

from scanner.github.circuits import FAILURES_TO_OPEN
from scanner.github.client import GitHub, connect, get_bytes, get_json
from scanner.github.errors import (
    GitHubError,
    Malformed,
    Unavailable,
)
from scanner.github.transport import SILENT_SECONDS, beginning, inflated
from tests.scanner.github.requesting import API, SECRET, WEB


@pytest.fixture
def client() -> Iterator[GitHub]:
    connected = connect(API, WEB, SECRET)
    yield connected
    connected.close()


class Reset(httpx.SyncByteStream):
    """A response body whose connection breaks after the first bytes."""

    def __iter__(self) -> Iterator[bytes]:
        yield b'{"a": [1, 2'
        raise httpx.ReadError("connection reset by peer")


@respx.mock
def test_resets_in_mid_body_count_for_the_circuit_like_any_failure(client: GitHub) -> None:
    route = respx.get(f"{API}/x").mock(side_effect=lambda _: httpx.Response(200, stream=Reset()))
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(Unavailable) as caught:
            get_json(client, f"{API}/x", expected=dict)
        assert caught.value.reason == "connection"
    with pytest.raises(Unavailable) as caught:
        get_json(client, f"{API}/x", expected=dict)
    assert (caught.value.reason, caught.value.asked, route.call_count) == ("circuit_open", False, FAILURES_TO_OPEN)


@respx.mock
def test_a_body_that_we_do_not_read_to_its_end_is_no_failure_of_its_host(client: GitHub) -> None:
    respx.get(f"{API}/x").mock(side_effect=lambda _: httpx.Response(200, stream=httpx.ByteStream(bytes(5000))))
    for _ in range(FAILURES_TO_OPEN + 1):
        with pytest.raises(Malformed):
            get_bytes(client, f"{API}/x", limit=100)


@respx.mock
@pytest.mark.parametrize("cut", [1, 9, 40])
def test_a_gzip_file_without_its_end_does_not_count_as_complete(client: GitHub, cut: int) -> None:
    whole = gzip.compress(b"the file\n" * 1000)
    packed = {"content-encoding": "gzip"}

    def answer(content: bytes) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(content), headers=packed)

    respx.get(f"{API}/cut").mock(return_value=answer(whole[:-cut]))
    respx.get(f"{API}/whole").mock(return_value=answer(whole))
    respx.get(f"{API}/twice").mock(return_value=answer(whole * 2 + bytes(9)))
    respx.get(f"{API}/nothing").mock(return_value=answer(b""))
    with pytest.raises(Unavailable) as caught:
        get_bytes(client, f"{API}/cut", limit=1 << 20)
    assert caught.value.reason == "cut_off"
    sizes = [len(get_bytes(client, f"{API}/{name}", limit=1 << 20)) for name in ("whole", "twice", "nothing")]
    assert sizes == [9000, 18000, 0]


def test_gzip_that_expands_to_nothing_is_abandoned() -> None:
    with_name = b"\x1f\x8b\x08\x08" + bytes(4) + b"\0\xff"
    given_out = itertools.count(1)
    endless = itertools.chain([with_name], (b"a" for _ in range(100_000) if next(given_out)))
    clock = itertools.count(0.0, 1.0)
    with pytest.raises(Unavailable) as caught:
        list(inflated(endless, "raw.example", clock=lambda: next(clock)))
    assert caught.value.reason == "too_slow"
    assert next(given_out) < 2 * SILENT_SECONDS


def test_gzip_that_arrives_slowly_is_read_to_its_end() -> None:
    packed = gzip.compress(random.Random(5).randbytes(1 << 20))
    clock = itertools.count(0.0, SILENT_SECONDS / 4)
    pieces = (packed[start : start + 4096] for start in range(0, len(packed), 4096))
    assert sum(map(len, inflated(pieces, "raw.example", clock=lambda: next(clock)))) == 1 << 20


def test_the_text_of_a_refusal_that_arrives_slowly_is_not_awaited() -> None:
    given_out = itertools.count(1)

    class Dripping(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield from (b"a" for _ in range(4000) if next(given_out))

    clock = itertools.count(0.0, 1.0)
    assert 0 < len(beginning(httpx.Response(403, stream=Dripping()), clock=lambda: next(clock))) < 20
    assert next(given_out) < 20


@respx.mock
@pytest.mark.parametrize("failure", [httpx.Response(502), httpx.Response(503), httpx.ReadError("reset")])
def test_a_momentary_failure_is_retried_at_once(client: GitHub, failure: Any) -> None:
    route = respx.get(f"{API}/x").mock(side_effect=[failure, failure, httpx.Response(200, json={"a": 1})])
    with stamina.set_testing(True, attempts=3):
        assert get_json(client, f"{API}/x", expected=dict)[1] == {"a": 1}
    assert route.call_count == 3


@respx.mock
@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(429),
        httpx.Response(401),
        httpx.Response(404),
        httpx.Response(422),
        httpx.Response(500),
        httpx.Response(503, headers={"retry-after": "5"}),
    ],
)
def test_a_refusal_or_a_failure_with_a_duration_is_not_retried(client: GitHub, refusal: httpx.Response) -> None:
    route = respx.get(f"{API}/x").mock(return_value=refusal)
    with stamina.set_testing(True, attempts=3), pytest.raises(GitHubError):
        get_json(client, f"{API}/x", expected=dict)
    assert route.call_count == 1


@respx.mock
def test_a_small_budget_is_not_spent_on_retries(client: GitHub) -> None:
    small = {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "9", "x-ratelimit-reset": str(int(time.time()) + 3000)}
    respx.get(f"{API}/first").mock(return_value=httpx.Response(200, json={}, headers=small))
    route = respx.get(f"{API}/x").mock(return_value=httpx.Response(502))
    get_json(client, f"{API}/first", expected=dict)
    with stamina.set_testing(True, attempts=3), pytest.raises(Unavailable):
        get_json(client, f"{API}/x", expected=dict)
    assert route.call_count == 1


@respx.mock
@pytest.mark.parametrize("failure", [503, httpx.ReadError("reset"), None])
def test_a_call_counts_once_for_the_circuit_however_often_it_was_tried(client: GitHub, failure: Any) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        if isinstance(failure, Exception):
            raise failure
        return httpx.Response(failure) if failure else httpx.Response(200, stream=Reset())

    route = respx.get(f"{API}/x").mock(side_effect=fail)
    with stamina.set_testing(True, attempts=3):
        for _ in range(FAILURES_TO_OPEN - 2):
            with pytest.raises(Unavailable):
                get_json(client, f"{API}/x", expected=dict)
        assert route.call_count == 3 * (FAILURES_TO_OPEN - 2)
        route.mock(side_effect=[httpx.Response(503), httpx.Response(200, json={"a": 1})])
        assert get_json(client, f"{API}/x", expected=dict)[1] == {"a": 1}


@respx.mock
def test_a_call_that_opens_the_circuit_has_failed_itself_and_says_why(client: GitHub) -> None:
    route = respx.get(f"{API}/x").mock(return_value=httpx.Response(503))
    seen = []
    with stamina.set_testing(True, attempts=3):
        for _ in range(FAILURES_TO_OPEN + 1):
            with pytest.raises(Unavailable) as caught:
                get_json(client, f"{API}/x", expected=dict)
            seen.append((caught.value.reason, caught.value.asked))
    assert seen == [("http_503", True)] * FAILURES_TO_OPEN + [("circuit_open", False)]
    assert route.call_count == 3 * (FAILURES_TO_OPEN - 1) + 1, "once the circuit is open, no request is sent"


class Endless(httpx.SyncByteStream):
    """An endless response body. It counts how often it was read."""

    def __init__(self) -> None:
        self.pieces = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.pieces < 100:
            self.pieces += 1
            yield bytes(1 << 16)


@respx.mock
def test_the_body_of_a_redirect_is_not_read(client: GitHub) -> None:
    body = Endless()
    respx.get(f"{API}/x").mock(return_value=httpx.Response(301, headers={"Location": f"{API}/y"}, stream=body))
    respx.get(f"{API}/y").mock(return_value=httpx.Response(200, json={"a": 1}))
    assert get_json(client, f"{API}/x", expected=dict)[1] == {"a": 1}
    assert body.pieces == 0


@respx.mock
@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
def test_an_encoding_that_was_not_asked_for_is_refused_unread(client: GitHub, encoding: str) -> None:
    body = Endless()
    respx.get(f"{API}/x").mock(
        side_effect=lambda _: httpx.Response(200, headers={"Content-Encoding": encoding}, stream=body)
    )
    with pytest.raises(Unavailable) as caught:
        get_json(client, f"{API}/x", expected=dict)
    assert (caught.value.reason, body.pieces) == ("damaged", 0)

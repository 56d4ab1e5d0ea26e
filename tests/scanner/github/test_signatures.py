"""Tests for GitHub's signatures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from scanner.github import signatures
from scanner.github.client import GitHub, connect
from scanner.github.signatures import (
    KEPT_SECONDS,
    KEYS_PATH,
    MAX_WAITING,
    REFETCH_SECONDS,
    Forged,
    KeysUnavailable,
    PublicKeys,
    parse_keys,
    verify,
)
from workers.sandbox.alert_signer import AlertSigner

API = "https://api.github.com"
SAMPLE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data/secret_scanning_sample.json").read_text())
KEY_ID = SAMPLE["headers"]["Github-Public-Key-Identifier"]
SIGNATURE = SAMPLE["headers"]["Github-Public-Key-Signature"]
BODY = SAMPLE["raw_body"].encode()
KEYS = SAMPLE["public_keys_response"]
PEM = parse_keys(KEYS)[KEY_ID]


def test_the_documented_sample_verifies() -> None:
    assert len(BODY) == int(SAMPLE["headers"]["Content-Length"])
    verify(PEM, SIGNATURE, BODY)


@pytest.mark.parametrize(
    "body",
    [
        BODY + b"\n",
        BODY.replace(b"some_token", b"some_tokem"),
        json.dumps(json.loads(BODY)).encode(),
        json.dumps(json.loads(BODY), separators=(",", ":"), sort_keys=False).encode() + b" ",
        BODY.decode().encode("utf-16"),
        b"",
    ],
)
def test_a_changed_body_does_not_verify(body: bytes) -> None:
    with pytest.raises(Forged):
        verify(PEM, SIGNATURE, body)


@given(st.text(max_size=200) | st.binary(max_size=100).map(bytes.hex))
def test_no_other_signature_verifies_or_crashes(signature: str) -> None:
    with pytest.raises(Forged):
        verify(PEM, signature, BODY)


def test_another_key_of_github_does_not_verify() -> None:
    other = next(pem for name, pem in parse_keys(KEYS).items() if name != KEY_ID)
    with pytest.raises(Forged):
        verify(other, SIGNATURE, BODY)
    with pytest.raises(Forged):
        verify("no key", SIGNATURE, BODY)


@pytest.fixture
def github() -> GitHub:
    return connect(API, "https://github.com", None)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def at_once(work: Callable[[], None]) -> None:
    work()


@respx.mock
def test_keys_are_kept_for_an_hour_and_longer_while_none_can_be_fetched(github: GitHub) -> None:
    route = respx.get(f"{API}/{KEYS_PATH}").mock(return_value=httpx.Response(200, json=KEYS))
    clock = Clock()
    keys = PublicKeys(github, clock, start=at_once)
    for _ in range(5):
        keys.check(KEY_ID, SIGNATURE, BODY)
    assert route.call_count == 1
    route.mock(return_value=httpx.Response(500))
    clock.now += KEPT_SECONDS + 1
    keys.check(KEY_ID, SIGNATURE, BODY)
    assert route.call_count == 2


@respx.mock
def test_unknown_keys_trigger_a_fetch_at_a_limited_rate(github: GitHub) -> None:
    route = respx.get(f"{API}/{KEYS_PATH}").mock(return_value=httpx.Response(200, json={"public_keys": []}))
    clock = Clock()
    keys = PublicKeys(github, clock, start=at_once)
    with pytest.raises(KeysUnavailable):
        keys.check(KEY_ID, SIGNATURE, BODY)
    route.mock(return_value=httpx.Response(200, json=KEYS))
    clock.now += REFETCH_SECONDS
    keys.check(KEY_ID, SIGNATURE, BODY)
    for number in range(50):
        with pytest.raises(Forged):
            keys.check(f"unknown-{number}", SIGNATURE, BODY)
    assert route.call_count == 2


@respx.mock
def test_an_unknown_key_is_fetched_and_accepted(github: GitHub) -> None:
    signer = AlertSigner()
    route = respx.get(f"{API}/{KEYS_PATH}").mock(return_value=httpx.Response(200, json=KEYS))
    clock = Clock()
    keys = PublicKeys(github, clock, start=at_once)
    keys.check(KEY_ID, SIGNATURE, BODY)
    route.mock(return_value=httpx.Response(200, json={"public_keys": [signer.public_key()]}))
    clock.now += REFETCH_SECONDS
    headers = signer.headers(b"[]")
    keys.check(headers["Github-Public-Key-Identifier"], headers["Github-Public-Key-Signature"], b"[]")


@respx.mock
def test_a_new_key_that_cannot_be_fetched_is_unknown_and_not_forged(github: GitHub) -> None:
    signer = AlertSigner()
    headers = signer.headers(b"[]")
    new = (headers["Github-Public-Key-Identifier"], headers["Github-Public-Key-Signature"], b"[]")
    route = respx.get(f"{API}/{KEYS_PATH}").mock(return_value=httpx.Response(200, json=KEYS))
    clock = Clock()
    keys = PublicKeys(github, clock, start=at_once)
    keys.check(KEY_ID, SIGNATURE, BODY)
    with pytest.raises(Forged):
        keys.check(*new)
    route.mock(return_value=httpx.Response(500))
    clock.now += REFETCH_SECONDS
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            keys.check(*new)
    assert route.call_count == 2, "repeated unknown keys lead to no further request"
    route.mock(return_value=httpx.Response(200, json={"public_keys": [signer.public_key()]}))
    clock.now += REFETCH_SECONDS
    keys.check(*new)


@respx.mock
def test_an_alert_with_a_known_key_does_not_wait_for_a_fetch(github: GitHub) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow(_: httpx.Request) -> httpx.Response:
        asked.set()
        assert answered.wait(60)
        return httpx.Response(200, json=KEYS)

    route = respx.get(f"{API}/{KEYS_PATH}").mock(return_value=httpx.Response(200, json=KEYS))
    clock = Clock()
    keys = PublicKeys(github, clock)
    keys.check(KEY_ID, SIGNATURE, BODY)
    route.mock(side_effect=slow)
    clock.now += KEPT_SECONDS + 1
    keys.check(KEY_ID, SIGNATURE, BODY)
    assert asked.wait(60)
    keys.check(KEY_ID, SIGNATURE, BODY)
    assert not answered.is_set()
    answered.set()


@respx.mock
def test_an_alert_with_an_unknown_key_waits_no_longer_than_github_does(
    github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures, "WAIT_SECONDS", 0.01)
    started: list[Callable[[], None]] = []
    keys = PublicKeys(github, start=started.append)
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            keys.check(KEY_ID, SIGNATURE, BODY)
    assert len(started) == 1


@respx.mock
def test_at_most_two_requests_wait_for_keys_whoever_sends_unknown_keys(github: GitHub) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow(_: httpx.Request) -> httpx.Response:
        asked.set()
        assert answered.wait(60)
        return httpx.Response(200, json=KEYS)

    respx.get(f"{API}/{KEYS_PATH}").mock(side_effect=slow)
    keys = PublicKeys(github)
    verified, refused = threading.Semaphore(0), threading.Semaphore(0)

    def send() -> None:
        try:
            keys.check(KEY_ID, SIGNATURE, BODY)
            verified.release()
        except KeysUnavailable:
            refused.release()

    threads = [threading.Thread(target=send) for _ in range(16)]
    for thread in threads:
        thread.start()
    assert asked.wait(60)
    for _ in range(16 - MAX_WAITING):
        assert refused.acquire(timeout=5), "the other requests are answered without waiting"
    answered.set()
    for thread in threads:
        thread.join()
    for _ in range(MAX_WAITING):
        assert verified.acquire(blocking=False)


@respx.mock
def test_keys_are_fetched_later_if_no_thread_could_be_started(github: GitHub) -> None:
    respx.get(f"{API}/{KEYS_PATH}").mock(return_value=httpx.Response(200, json=KEYS))
    clock, starts = Clock(), [0]

    def start(work: Callable[[], None]) -> None:
        starts[0] += 1
        if starts[0] == 1:
            raise RuntimeError("can't start new thread")
        work()

    keys = PublicKeys(github, clock, start)
    with pytest.raises(KeysUnavailable):
        keys.check(KEY_ID, SIGNATURE, BODY)
    clock.now += REFETCH_SECONDS
    keys.check(KEY_ID, SIGNATURE, BODY)


@respx.mock
def test_a_request_without_signature_triggers_no_fetch(github: GitHub) -> None:
    route = respx.get(f"{API}/{KEYS_PATH}")
    keys = PublicKeys(github)
    for key_id, signature in (("", SIGNATURE), (KEY_ID, ""), ("x" * 1000, SIGNATURE), (KEY_ID, "x" * 10_000)):
        with pytest.raises(Forged):
            keys.check(key_id, signature, BODY)
    assert not route.called


@pytest.mark.parametrize(
    "value", [{}, {"public_keys": None}, {"public_keys": [None, {"key": 5}, {"key_identifier": "x"}]}]
)
def test_an_answer_without_keys_raises_no_unexpected_exception(value: dict[str, object]) -> None:
    assert parse_keys(value) == {}

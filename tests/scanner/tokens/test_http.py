"""Tests that an invalid answer of an HTTP token store never counts as "unknown token"."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import yaml
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from scanner.tokens import conformance, http
from scanner.tokens.http import DIGESTS_A_REQUEST, MAX_ANSWER_BYTES, HttpStore
from scanner.tokens.protocol import StoreUnavailable
from tests.hostile.registry import token_of
from tests.scanner.tokens.http_stores import DIGEST, GOOD, OTHER, URL
from workers.sandbox.http_server import served


def answered(body: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


@respx.mock
def test_a_record_is_what_the_contract_says(store: HttpStore) -> None:
    route = respx.post(f"{URL}/v1/tokens/lookup").mock(return_value=answered({"tokens": [GOOD], "not_checked": []}))
    found = store.look_up([DIGEST, OTHER])
    record = found.records[DIGEST]
    assert (record.id, record.account_id, record.account_name) == ("7", "12", "Ana")
    assert record.recipients == ("ana@example.com", "ben@example.com")
    assert record.last_used_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert (set(found.records), found.not_checked) == ({DIGEST}, frozenset())
    request = route.calls.last.request
    assert json.loads(request.content) == {"digests": [DIGEST, OTHER]}
    assert request.headers["authorization"] == "Bearer the-secret"


@respx.mock
def test_unchecked_digests_are_not_unknown(store: HttpStore) -> None:
    respx.post(f"{URL}/v1/tokens/lookup").mock(return_value=answered({"tokens": [GOOD], "not_checked": [OTHER]}))
    assert store.look_up([DIGEST, OTHER]).not_checked == {OTHER}


@respx.mock
def test_many_digests_are_sent_in_several_requests(store: HttpStore) -> None:
    route = respx.post(f"{URL}/v1/tokens/lookup").mock(return_value=answered({"tokens": []}))
    store.look_up([f"{number:064x}" for number in range(2 * DIGESTS_A_REQUEST + 1)])
    assert [len(json.loads(call.request.content)["digests"]) for call in route.calls] == [200, 200, 1]


@respx.mock
@pytest.mark.parametrize(
    "answer",
    [
        answered({}),
        answered([]),
        answered({"tokens": None}),
        answered({"tokens": [], "not_checked": [OTHER]}),
        answered({"tokens": [], "not_checked": [5]}),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, content=b"[" * 100_000),
        httpx.Response(200, content=b" " * (MAX_ANSWER_BYTES + 1)),
        httpx.Response(204),
        httpx.Response(302, headers={"location": "https://evil.example"}),
        httpx.Response(400),
        httpx.Response(401),
        httpx.Response(404),
    ],
)
def test_a_violation_of_the_contract_means_unavailable(store: HttpStore, answer: httpx.Response) -> None:
    route = respx.post(f"{URL}/v1/tokens/lookup").mock(return_value=answer)
    with pytest.raises(StoreUnavailable) as caught:
        store.look_up([DIGEST])
    assert route.call_count == 1
    assert "\n" not in str(caught.value)
    assert "the-secret" not in repr(caught.value)


@respx.mock
@pytest.mark.parametrize(
    "entry",
    [
        None,
        {**GOOD, "digest": "c" * 64},
        {**GOOD, "digest": DIGEST.upper()},
        {**GOOD, "id": None},
        {**GOOD, "created_at": "2026-01-01T00:00:00"},
        {**GOOD, "disabled_at": "yesterday"},
        {**GOOD, "last_used_at": "0001-01-01T00:00:00+01:00"},
        {**GOOD, "last_used_at": "9999-12-31T23:59:59-01:00"},
        {**GOOD, "account": "ana"},
        {**GOOD, "account": {"id": 1, "recipients": "ana@example.com"}},
    ],
)
def test_a_record_that_breaks_the_contract_is_requested_again_and_the_others_are_used(
    store: HttpStore, entry: Any
) -> None:
    respx.post(f"{URL}/v1/tokens/lookup").mock(return_value=answered({"tokens": [entry, {**GOOD, "digest": OTHER}]}))
    found = store.look_up([DIGEST, OTHER])
    assert set(found.records) == {OTHER}
    assert found.not_checked == {DIGEST}, "the token must not count as unknown"
    assert "breaks the contract" in found.warning


@respx.mock
def test_names_contain_only_characters_that_a_database_accepts(store: HttpStore) -> None:
    account = {
        "id": "a\0",
        "name": "\ud800 Ana",
        "recipients": ["a\0@b.example", "ana@example.com", "\ud800@x.example"],
    }
    respx.post(f"{URL}/v1/tokens/lookup").mock(
        return_value=httpx.Response(
            200, content=json.dumps({"tokens": [{**GOOD, "name": "x\0\ud800\n", "account": account}]}).encode()
        )
    )
    record = store.look_up([DIGEST]).records[DIGEST]
    assert (record.name, record.account_id, record.account_name) == ("x���", "a�", "� Ana")
    assert record.recipients == ("ana@example.com",)


@respx.mock
def test_a_name_that_is_a_token_is_masked(store: HttpStore, fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    respx.post(f"{URL}/v1/tokens/lookup").mock(return_value=answered({"tokens": [{**GOOD, "name": f"my {token}"}]}))
    assert token not in store.look_up([DIGEST]).records[DIGEST].name


def test_an_answer_that_arrives_byte_by_byte_has_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "EXCHANGE_SECONDS", 0.2)
    monkeypatch.setattr(http, "ATTEMPTS", 1)

    async def drip(request: Request) -> StreamingResponse:
        async def drops() -> AsyncIterator[bytes]:
            for _ in range(10_000):
                yield b" "
                await asyncio.sleep(0.01)

        return StreamingResponse(drops())

    with served(Starlette(routes=[Route("/v1/tokens/lookup", drip, methods=["POST"])])) as url:
        store = HttpStore(url)
        with pytest.raises(StoreUnavailable, match="takes too long"):
            store.look_up([DIGEST])
        store.close()


@respx.mock
@pytest.mark.parametrize(
    "failure",
    [httpx.Response(500), httpx.Response(503), httpx.Response(429), httpx.ReadTimeout("x"), httpx.ConnectError("x")],
)
def test_transient_failures_are_retried(store: HttpStore, failure: Any) -> None:
    route = respx.post(f"{URL}/v1/tokens/disable")
    route.side_effect = [
        failure,
        answered({"result": "disabled", "disabled_at": GOOD["created_at"], "idempotency_key": "k"}),
    ]
    assert store.disable(DIGEST, key="k", reason="r", cause="public_repository").result == "disabled"
    assert {call.request.headers["idempotency-key"] for call in route.calls} == {"k"}
    route.side_effect = [failure] * 9
    with pytest.raises(StoreUnavailable):
        store.disable(DIGEST, key="k", reason="r", cause="public_repository")
    assert route.call_count == 5


@respx.mock
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"result": "yes"},
        {"result": "disabled", "disabled_at": None},
        {"result": "disabled", "disabled_at": "2026-01-01T00:00:00Z", "idempotency_key": 5},
    ],
)
def test_a_malformed_answer_to_a_disable_means_unavailable(store: HttpStore, body: Any) -> None:
    respx.post(f"{URL}/v1/tokens/disable").mock(return_value=answered(body))
    with pytest.raises(StoreUnavailable):
        store.disable(DIGEST, key="k", reason="r", cause="public_repository")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "recipients"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_no_answer_raises_an_unexpected_exception(body: Any) -> None:
    with respx.mock:
        respx.post(f"{URL}/v1/tokens/lookup").mock(return_value=answered(body))
        store = HttpStore(URL)
        try:
            assert set(store.look_up([DIGEST]).records) <= {DIGEST}
        except StoreUnavailable:
            pass
        finally:
            store.close()


def test_a_server_that_hangs_up_in_mid_body_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def cut_off() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"tokens": [')

        thread = threading.Thread(target=cut_off)
        thread.start()
        store = HttpStore(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            store.look_up([DIGEST])
        thread.join()
        store.close()


def test_the_contract_describes_every_request_of_the_code() -> None:
    contract = yaml.safe_load((Path(__file__).parents[3] / "docs/token-store-openapi.yaml").read_text())
    assert set(contract["paths"]) == {conformance.LOOKUP, conformance.DISABLE, conformance.CANARY}
    body = contract["paths"][conformance.LOOKUP]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["digests"]["maxItems"] == DIGESTS_A_REQUEST
    assert set(contract["components"]["schemas"]["Token"]["properties"]) >= set(GOOD) - {"something_new"}


@respx.mock
def test_a_compressed_answer_is_refused_before_it_is_inflated(store: HttpStore) -> None:
    packed = gzip.compress(bytes(MAX_ANSWER_BYTES), 1)
    route = respx.post(f"{URL}/v1/tokens/lookup").mock(
        side_effect=lambda _: httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(packed))
    )
    with pytest.raises(StoreUnavailable, match="it is compressed"):
        store.look_up([DIGEST])
    assert route.calls.last.request.headers["accept-encoding"] == "identity"


@respx.mock
@pytest.mark.parametrize("before", [0, 216, 219, 250])
def test_a_token_in_a_name_is_redacted_before_the_name_is_cut(store: HttpStore, before: int) -> None:
    token = token_of("a name").decode()
    named = {**GOOD, "name": "x" * before + " " + token + " " + "y" * 300}
    respx.post(f"{URL}/v1/tokens/lookup").mock(return_value=answered({"tokens": [named], "not_checked": []}))
    name = store.look_up([DIGEST]).records[DIGEST].name
    assert token[8:20] not in name
    assert len(name) == 255

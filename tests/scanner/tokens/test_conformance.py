"""Tests of the check for a vendor's token store, which names each broken rule."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from scanner.tokens import conformance
from scanner.tokens.conformance import Rule
from scanner.tokens.http import HttpStore, tls_context
from scanner.tokens.protocol import StoreUnavailable
from tests.certificates import Authority
from tests.scanner.tokens.http_stores import DIGEST, GOOD, OTHER
from workers.sandbox import token_store
from workers.sandbox.http_server import Tls
from workers.sandbox.token_store import ReferenceStore


@contextmanager
def reference(**changes: Callable[..., Any]) -> Iterator[ReferenceStore]:
    """Run a correct token store with one known token. `changes` replaces methods of the store."""
    reference_store = ReferenceStore("the-secret")
    reference_store.add(DIGEST)
    for name, method in changes.items():
        setattr(reference_store, name, method)
    with token_store.running(reference_store):
        yield reference_store


def rules(reference_store: ReferenceStore, secret: str = "the-secret") -> list[Rule]:
    return list(conformance.check(reference_store.url, secret, known=DIGEST, may_disable=True))


def test_the_reference_keeps_every_rule() -> None:
    with reference() as reference_store:
        found = rules(reference_store)
    assert len(found) == 16
    assert [rule for rule in found if not rule.is_kept] == []


def later(count: Iterator[int]) -> dict[str, str]:
    return {"disabled_at": f"2026-01-01T00:00:{next(count):02}Z"}


def broken(name: str) -> dict[str, Callable[..., Any]]:
    """Return methods for a token store that breaks one rule, which `name` describes."""
    record = {**GOOD, "digest": DIGEST}
    done = {"result": "disabled", "disabled_at": "2026-01-01T00:00:00Z", "idempotency_key": "mine"}
    count = iter(range(100))
    ways: dict[str, dict[str, Callable[..., Any]]] = {
        "it gives all it has": {"look_up": lambda digests: {"tokens": [record]}},
        "it does not know the token": {"look_up": lambda digests: {"tokens": []}},
        "it gives null": {"look_up": lambda digests: {"tokens": None}},
        "it cannot check anything": {"look_up": lambda digests: {"tokens": [], "not_checked": digests}},
        "it forgets the key": {"disable": lambda digest, key, reason: {**done, "idempotency_key": key}},
        "it has keys of its own": {"disable": lambda digest, key, reason: done},
        "it disables what it does not know": {"disable": lambda digest, key, reason: done},
        "its time changes": {"disable": lambda digest, key, reason: {**done, "idempotency_key": key, **later(count)}},
    }
    return ways[name]


@pytest.mark.parametrize(
    "name",
    [
        "it gives all it has",
        "it does not know the token",
        "it gives null",
        "it cannot check anything",
        "it forgets the key",
        "it has keys of its own",
        "it disables what it does not know",
        "its time changes",
    ],
)
def test_the_check_names_the_broken_rule(name: str) -> None:
    with reference(**broken(name)) as reference_store:
        found = [rule for rule in rules(reference_store) if not rule.is_kept]
    assert found
    assert all(rule.advice for rule in found)


def test_the_check_reports_a_store_that_accepts_any_secret() -> None:
    with reference(accepts=lambda given: True) as reference_store:
        names = [rule.name for rule in rules(reference_store) if not rule.is_kept]
    assert names == ["a client without the secret is refused (401)"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@contextmanager
def behind_tls(authority: Authority) -> Iterator[tuple[ReferenceStore, ssl.SSLContext, ssl.SSLContext]]:
    """Run a token store that identifies clients by their certificate.

    Yield the store, a TLS context with r8scan's certificate, and one without a certificate.
    """
    server, client = authority.issue("server"), authority.issue("client")
    reference_store = ReferenceStore("")
    reference_store.add(DIGEST)
    reference_store.accepts = lambda authorization: True  # type: ignore[method-assign]  # the TLS handshake checks the client
    with_ours = tls_context(client.cert_file, client.key_file, authority.file)
    without = tls_context(None, None, authority.file)
    assert with_ours is not None
    assert without is not None
    with token_store.running(reference_store, Tls(server.cert_file, server.key_file, authority.file)):
        yield reference_store, with_ours, without


def test_a_store_with_mutual_tls_looks_up_and_disables(authority: Authority) -> None:
    with behind_tls(authority) as (server_store, tls, without), closing(HttpStore(server_store.url, tls=tls)) as store:
        assert set(store.look_up([DIGEST, OTHER]).records) == {DIGEST}
        assert store.disable(DIGEST, key="k", reason="r", cause="public_repository").result == "disabled"
        for wrong in (without, None):
            with closing(HttpStore(server_store.url, tls=wrong)) as stranger, pytest.raises(StoreUnavailable):
                stranger.look_up([DIGEST])


def test_a_store_with_mutual_tls_obeys_every_rule(authority: Authority) -> None:
    with behind_tls(authority) as (server_store, tls, without):
        check = conformance.check(server_store.url, None, known=DIGEST, may_disable=True, tls=tls, stranger_tls=without)
        found = list(check)
    assert len(found) == 16
    assert [rule for rule in found if not rule.is_kept] == []
    assert "a client without a certificate is refused" in {rule.name for rule in found}


def test_the_check_reports_a_store_that_accepts_clients_without_certificate(authority: Authority) -> None:
    with behind_tls(authority) as (server_store, tls, _):
        check = conformance.check(server_store.url, None, tls=tls, stranger_tls=tls)
        assert [rule.name for rule in check if not rule.is_kept] == ["a client without a certificate is refused"]


def test_an_unreachable_store_is_reported_rule_by_rule() -> None:
    found = list(conformance.check("http://127.0.0.1:9", None))
    found += conformance.check("http://127.0.0.1:9", None, stranger_tls=ssl.create_default_context())
    assert found
    assert not any(rule.is_kept for rule in found)

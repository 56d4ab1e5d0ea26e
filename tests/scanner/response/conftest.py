"""Fixtures for tests with a remote token store (HTTP)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scanner.response.policy import Policy
from scanner.response.store_access import RemoteAccess
from tests.scanner.response.remote_store import DIGEST, Away
from workers.sandbox import token_store
from workers.sandbox.token_store import ReferenceStore


@pytest.fixture
def reference() -> Iterator[ReferenceStore]:
    reference_store = ReferenceStore("the-secret")
    reference_store.add(DIGEST)
    with token_store.running(reference_store):
        yield reference_store


@pytest.fixture
def store(reference: ReferenceStore) -> Iterator[Away]:
    store = Away(reference.url, "the-secret")
    yield store
    store.close()


@pytest.fixture
def policy(store: Away) -> Policy:
    return Policy(operator_email="op@example.com", access=RemoteAccess(store))

"""Fixtures for tests of token stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stamina

from scanner.tokens.http import HttpStore
from tests.scanner.tokens.http_stores import URL


@pytest.fixture(autouse=True)
def _without_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture
def store() -> Iterator[HttpStore]:
    store = HttpStore(URL, "the-secret")
    yield store
    store.close()

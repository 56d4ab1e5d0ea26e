"""Fixtures for tests of reports about compromised tokens."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import MetaData, select

from scanner.detection import sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records.database import Database
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun


@pytest.fixture
def known(database: Database, fresh_token: Callable[[], str]) -> Callable[..., str]:
    """Return a function that creates a new token, registers it for an account, and returns it."""

    def make(account: str = "ana") -> str:
        token = fresh_token()
        row = ImportedToken(
            sha256_digest(token.encode()), hint_of(token.encode()), "ci", account, (f"{account}@example.com",)
        )
        with database.write() as session:
            ImportRun.begin().write(session, [row])
        return token

    return make


@pytest.fixture
def dump(database: Database) -> Callable[[], str]:
    """Return a function that returns the whole content of the database as text."""

    def read() -> str:
        tables = MetaData()
        tables.reflect(database.engine)
        with database.engine.connect() as connection:
            rows = [str(row) for table in tables.sorted_tables for row in connection.execute(select(table))]
        return "\n".join(rows)

    return read


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Yield a stream with all log lines before their redaction."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)

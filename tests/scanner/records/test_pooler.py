"""Tests that r8scan works with a connection pooler, which may change the connection after each transaction."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from scanner.records import schema
from scanner.records.database import Database, parse_url

LIMIT = text("SELECT setting, source FROM pg_settings WHERE name = 'statement_timeout'")


def test_limits_are_set_in_each_transaction_and_no_statement_is_prepared(postgresql_url: str) -> None:
    direct = Database(postgresql_url, max_connections=1)
    with direct.read() as session:
        assert session.execute(LIMIT).one() == ("20000", "client")
    direct.close()
    url = f"{postgresql_url}&pooler=transaction"
    # An upgrade uses two connections. One holds the lock, and the other changes the tables.
    upgraded = Database(url, max_connections=2)
    schema.upgrade(upgraded)
    upgraded.close()
    pooled = Database(url, max_connections=1)
    for _ in range(10):
        with pooled.write() as session:
            assert session.execute(LIMIT).one() == ("20000", "session")
    with pooled.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.rollback()
        assert raw.execute("SHOW statement_timeout").fetchone() == ("0",), "the limit ends with its transaction"
        assert raw.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    pooled.close()


def test_the_number_of_connections_of_a_process_is_limited(postgresql_url: str) -> None:
    for limit in (1, 3, 6):
        database = Database(postgresql_url, max_connections=limit)
        pool = database.engine.pool
        assert pool.size() + pool._max_overflow == limit  # type: ignore[attr-defined]
        database.close()


def test_a_pooler_in_another_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="pooler=transaction"):
        parse_url("postgresql://x@/x?pooler=session")

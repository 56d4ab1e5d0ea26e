"""Database connections and transactions, with the same rules on PostgreSQL and on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from scanner.private_folders import create_privately
from scanner.records.columns import storable_json

BUSY_TIMEOUT_SECONDS = 10
STATEMENT_TIMEOUT_SECONDS = 20
WRONG_URL = "must be postgresql://user:password@host/name or sqlite:////path/to/file"
POOLER, TRANSACTION = "pooler", "transaction"
"""`?pooler=transaction` in a PostgreSQL URL means a pooler in transaction mode, such as PgBouncer."""
_DEADLOCK = "40P01"
"""PostgreSQL's error code for a deadlock: https://www.postgresql.org/docs/current/errcodes-appendix.html"""


class DatabaseUnavailable(Exception):
    """Raised if the database cannot be reached or opened. The message is one line that says what to check."""


def parse_url(url: str) -> URL:
    """Return the database URL with the name of the driver that r8scan installs.

    Raises:
        ValueError: The URL names an unsupported database. The message is one line without the password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as err:
        raise ValueError(WRONG_URL) from err
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        if parsed.query.get(POOLER, TRANSACTION) != TRANSACTION:
            raise ValueError(f"has a wrong {POOLER}: write postgresql://…/name?{POOLER}={TRANSACTION}")
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed
    raise ValueError(WRONG_URL)


class Database:
    """Access to the database in two kinds of transactions: `read()` and `write()`.

    Call `is_unavailable` to recognize the exception for a lost connection.

    Args:
        url: The address of the database.
        max_connections: The maximum number of open connections. With 0, each transaction opens its own connection.
    """

    def __init__(self, url: str, *, max_connections: int = 10) -> None:
        self.url = parse_url(url)
        self.engine = (
            _postgresql(self.url, max_connections) if self.is_postgresql else _sqlite(self.url, max_connections)
        )

    @property
    def is_postgresql(self) -> bool:
        return self.url.get_backend_name() == "postgresql"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that only reads."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction that writes. It commits at the end of the `with` block; an exception rolls it back.

        Keep the block short and do no other I/O in it.
        """
        engine = self.engine.execution_options(r8scan_writes=True)
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


def is_conflict(err: BaseException) -> bool:
    """Return whether a transaction failed because of a concurrent one (unique key, deadlock) and must be repeated."""
    return isinstance(err, IntegrityError) or getattr(getattr(err, "orig", None), "sqlstate", None) == _DEADLOCK


def is_unavailable(err: BaseException) -> bool:
    """Return whether the error means that the database is unavailable, not that the statement is wrong."""
    if isinstance(err, OperationalError | DatabaseUnavailable):
        return True
    if not isinstance(err, DBAPIError):
        return False
    # SQLite raises DatabaseError, and no subclass of it, only if the file is damaged.
    return err.connection_invalidated or type(err.orig) is sqlite3.DatabaseError


def _postgresql(url: URL, max_connections: int) -> Engine:
    is_pooled = url.query.get(POOLER) == TRANSACTION
    # Limit how long a statement may take, so that it does not run after the worker's lease has expired.
    limits = {"statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s", "idle_in_transaction_session_timeout": "60s"}
    options = {"options": " ".join(f"-c {name}={value}" for name, value in limits.items())}
    # A pooler such as PgBouncer may change the connection at each transaction, which loses prepared statements and
    # options.
    arguments = {"prepare_threshold": None} if is_pooled else options
    engine = create_engine(
        url.difference_update_query([POOLER]),
        **_pool(max_connections),
        pool_pre_ping=True,
        hide_parameters=True,
        json_serializer=storable_json,
        connect_args={"connect_timeout": 5, **arguments},
    )
    if is_pooled:
        settings = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in limits.items())
        event.listen(engine, "begin", lambda connection: _execute(connection, f"SELECT {settings}"))
    return engine


def _pool(max_connections: int) -> dict[str, Any]:
    if not max_connections:
        return {"poolclass": NullPool}
    # Keep at most half of the connections open while they are idle, because each costs PostgreSQL some megabytes.
    kept = max(max_connections // 2, 1)
    return {"pool_size": kept, "max_overflow": max_connections - kept}


def _execute(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)


def _sqlite(url: URL, max_connections: int) -> Engine:
    path = Path(str(url.database))
    if path.is_dir():
        raise DatabaseUnavailable(f"{path} is a folder, not the file of a database")
    try:
        # Make the database file private first, because SQLite copies its permissions to -wal and -shm files.
        create_privately(path)
    except OSError as err:
        raise DatabaseUnavailable(f"cannot create {path}: {err.strerror}") from err
    engine = create_engine(
        url,
        poolclass=None if max_connections else NullPool,
        hide_parameters=True,
        json_serializer=storable_json,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    # Let `_begin_sqlite` start the transactions. The driver would start them too late, at the first write.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("r8scan_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

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
from sqlalchemy.pool import ConnectionPoolEntry

from scanner.private_folders import create_privately
from scanner.records.columns import storable_json

BUSY_TIMEOUT_SECONDS = 10
STATEMENT_TIMEOUT_SECONDS = 20
_DEADLOCK = "40P01"
"""https://www.postgresql.org/docs/current/errcodes-appendix.html"""


class DatabaseUnavailable(Exception):
    """The database cannot be reached or opened. The message is one line that says what to check."""


def parse_url(url: str) -> URL:
    """Return the URL with the driver that r8scan ships.

    Raises:
        ValueError: The URL names another database. The message is one line and does not contain the password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as err:
        raise ValueError(
            "not a database URL; use postgresql://user:password@host/name or sqlite:////path/to/file"
        ) from err
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed
    raise ValueError("use postgresql://user:password@host/name or sqlite:////path/to/file")


class Database:
    """An SQLAlchemy engine with two kinds of transactions: `read()` and `write()`.

    A lost connection raises SQLAlchemy's own error. `is_unavailable` distinguishes it from a wrong statement.
    """

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self.url = parse_url(url)
        self.engine = _postgresql(self.url, pool_size) if self.is_postgresql else _sqlite(self.url)

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
        """Open a transaction that writes. It commits at the end of the block; an exception rolls it back.

        Keep the block short and do no other I/O in it. On SQLite, the transaction takes the write lock when it begins:
        one that reads first and writes later fails with "locked" despite the busy timeout.
        """
        engine = self.engine.execution_options(r8scan_writes=True)
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


def is_conflict(err: BaseException) -> bool:
    """Return whether the transaction lost against another one (unique key or deadlock) and must be repeated."""
    return isinstance(err, IntegrityError) or getattr(getattr(err, "orig", None), "sqlstate", None) == _DEADLOCK


def is_unavailable(err: BaseException) -> bool:
    """Return whether the error means that the database is unavailable, not that the statement is wrong."""
    if isinstance(err, OperationalError | DatabaseUnavailable):
        return True
    if not isinstance(err, DBAPIError):
        return False
    # SQLite raises the plain DatabaseError only for a damaged file.
    return err.connection_invalidated or type(err.orig) is sqlite3.DatabaseError


def _postgresql(url: URL, pool_size: int) -> Engine:
    # Limit the time of statements. One that hangs would still run after its worker's lease has expired.
    options = f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c idle_in_transaction_session_timeout=60s"
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,
        json_serializer=storable_json,
        connect_args={"connect_timeout": 5, "options": options},
    )


def _sqlite(url: URL) -> Engine:
    path = Path(str(url.database))
    try:
        # SQLite creates the -wal and -shm files with the mode of the database file.
        create_privately(path)
    except OSError as err:
        raise DatabaseUnavailable(f"cannot create {path}: {err.strerror}") from err
    engine = create_engine(
        url,
        hide_parameters=True,
        json_serializer=storable_json,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    # Turn off the driver's transaction control. It begins a transaction only at the first write, which loses updates.
    # `_begin_sqlite` begins the transactions instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("r8scan_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

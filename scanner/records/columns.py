"""Column types, SQL expressions and statements that mean the same on PostgreSQL and on SQLite."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Float, Insert, Integer, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware point in time, UTC. SQLite keeps it as text that sorts; naive values are refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
Id = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite counts rows up by itself only for a plain INTEGER."""


class db_now(FunctionElement[datetime]):  # noqa: N801 - reads like the SQL function that it is
    """The database's own clock, `seconds` from now: leases of several machines need one clock.

    The seconds are a bound parameter, so that a statement is compiled once and not each time.
    """

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: float = 0) -> None:
        super().__init__(*([literal(float(seconds), Float())] if seconds else []))


@compiles(db_now, "postgresql")
def _postgresql_now(element: db_now, compiler: SQLCompiler, **options: Any) -> str:
    return _postgresql_clock(element, compiler, options)


@compiles(db_now, "sqlite")
def _sqlite_now(element: db_now, compiler: SQLCompiler, **options: Any) -> str:
    return _sqlite_clock("%Y-%m-%d %H:%M:%f000", element, compiler, options)


class db_hour(FunctionElement[datetime]):  # noqa: N801 - as above
    """The beginning of the hour in which the database's clock will be in `seconds`."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: float = 0) -> None:
        super().__init__(*([literal(float(seconds), Float())] if seconds else []))


@compiles(db_hour, "postgresql")
def _postgresql_hour(element: db_hour, compiler: SQLCompiler, **options: Any) -> str:
    return f"date_trunc('hour', {_postgresql_clock(element, compiler, options)}, 'UTC')"


@compiles(db_hour, "sqlite")
def _sqlite_hour(element: db_hour, compiler: SQLCompiler, **options: Any) -> str:
    return _sqlite_clock("%Y-%m-%d %H:00:00.000000", element, compiler, options)


def _postgresql_clock(element: db_now | db_hour, compiler: SQLCompiler, options: dict[str, Any]) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))" if seconds else "clock_timestamp()"


def _sqlite_clock(form: str, element: db_now | db_hour, compiler: SQLCompiler, options: dict[str, Any]) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('{form}', 'now', {seconds} || ' seconds')" if seconds else f"strftime('{form}', 'now')"


def insert_or_nothing(session: Session, model: type[DeclarativeBase]) -> Insert:
    """An INSERT that does nothing where a unique key is taken."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(model).on_conflict_do_nothing()
    return sqlite.insert(model).on_conflict_do_nothing()

"""Column types, SQL expressions and statements that mean the same on PostgreSQL and on SQLite."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Float, Insert, Integer, literal, types
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


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""PostgreSQL takes neither NUL nor lone surrogates, in text or in JSON. Python makes surrogates of bytes in names of
files that are not UTF-8, and of escapes such as `\\ud800` in the JSON of others."""


def storable_text(value: str) -> str:
    """Return the text as every database takes it: `\\xff` for a byte that is no UTF-8, `\\x00`, `\\ud800`."""
    if value.isascii() and "\0" not in value:
        return value
    return _UNSTORABLE.sub(_visible, value)


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python writes a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code else "\\x00"


def storable_json(value: Any) -> str:
    """Return the value as JSON that every database takes; the engines write all JSON columns by it.

    Numbers that JSON has no form for (infinity) become text.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_storable(value))
    return json.dumps(_storable(value)) if "\\ud" in text or "\\u0000" in text else text


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


class _StorableText(TypeDecorator[str]):
    """Text that a stranger may have written; what no database takes is written visibly."""

    impl = types.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        del dialect
        if value is None:
            return None
        storable = storable_text(value)
        length = getattr(self.impl_instance, "length", None)
        # It has grown: a column of limited width must still take it.
        return storable[:length] if length and storable is not value else storable


class Text(_StorableText):
    """Text of any length."""

    impl = types.Text
    cache_ok = True


class String(_StorableText):
    """Text of limited length."""

    impl = types.String
    cache_ok = True


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

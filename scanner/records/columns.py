"""Column types, SQL expressions and statements that behave the same on PostgreSQL and on SQLite."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    Float,
    Insert,
    Integer,
    any_,
    func,
    literal,
    select,
    types,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite


class UtcDateTime(TypeDecorator[datetime]):
    """A database column type for a time in UTC. A time without a zone raises ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""PostgreSQL rejects NUL and lone surrogates in text and in JSON."""


def storable_text(value: str) -> str:
    """Return the text with a visible escape, such as `\\x00`, in place of each character that PostgreSQL rejects."""
    if value.isascii() and "\0" not in value:
        return value
    return _UNSTORABLE.sub(_escaped, value)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python's surrogateescape form of a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code else "\\x00"


def storable_json(value: Any) -> str:
    """Return the value as JSON that both databases accept. Infinity and NaN become text."""
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
    """A column type for untrusted text, which replaces characters that PostgreSQL rejects."""

    impl = types.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        del dialect
        # Return most values quickly, because one request may write 50,000 values.
        if value is None or (value.isascii() and "\0" not in value):
            return value
        storable = storable_text(value)
        length = getattr(self.impl_instance, "length", None)
        # The escapes make the text longer, so cut it to the width of the column.
        return storable[:length] if length and storable is not value else storable


class Text(_StorableText):
    """A column type for untrusted text of any length."""

    impl = types.Text
    cache_ok = True


class String(_StorableText):
    """A column type for untrusted text of limited length."""

    impl = types.String
    cache_ok = True


class Json(TypeDecorator[Any]):
    """A column type for JSON. PostgreSQL stores it as JSONB."""

    impl = JSON
    cache_ok = True
    should_evaluate_none = JSON.should_evaluate_none

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return super().load_dialect_impl(dialect)
        from sqlalchemy.dialects.postgresql import JSONB  # with SQLite, nothing else imports this dialect

        return dialect.type_descriptor(JSONB())

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        return self.impl_instance.coerce_compared_value(op, value)


Id = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite assigns ids by itself only to a column of type INTEGER."""


class db_now(FunctionElement[datetime]):  # noqa: N801 - named like an SQL function
    """The SQL expression for the database's time at the start of the statement, plus `seconds`."""

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


class db_hour(FunctionElement[datetime]):  # noqa: N801 - named like an SQL function
    """The SQL expression for the start of the hour (UTC) that contains the database's time plus `seconds`."""

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
    return f"(statement_timestamp() + make_interval(secs => {seconds}))" if seconds else "statement_timestamp()"


def _sqlite_clock(form: str, element: db_now | db_hour, compiler: SQLCompiler, options: dict[str, Any]) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('{form}', 'now', {seconds} || ' seconds')" if seconds else f"strftime('{form}', 'now')"


def insert_into(session: Session, table: Any) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT statement for a model or its table. The caller may add an ON CONFLICT clause."""
    # Import only the dialect of the database, because the import of PostgreSQL's takes 20 ms and 3 MB.
    if session.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def insert_or_nothing(session: Session, model: type[DeclarativeBase]) -> Insert:
    """Return an INSERT that skips rows whose unique key already exists."""
    return insert_into(session, model).on_conflict_do_nothing()


def is_among(session: Session, column: InstrumentedAttribute[Any], texts: Collection[str]) -> ColumnElement[bool]:
    """Return the SQL condition that the column is equal to one of the texts.

    The texts must not have characters that PostgreSQL rejects.
    """
    # Pass all texts as one parameter, because SQLAlchemy is slow with one parameter for each text.
    if session.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return column == any_(literal(list(texts), postgresql.ARRAY(types.Text())))
    listed = func.json_each(literal(json.dumps(list(texts)), types.Text())).table_valued("value")
    return column.in_(select(listed.c.value))

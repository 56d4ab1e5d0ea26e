"""Prints tables and texts for people, and JSON lines for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from workers.cli.tables import FittedTable

WIDTH_OF_PIPES = 1000
"""The width of tables, in characters, for pipes and files. Each row then fits into one line."""
MAX_FITTED_ROWS = 500
"""A table with more rows is not fitted to the terminal, because rich needs 5 seconds to lay out 20,000 rows."""


def console() -> Console:
    """Return a rich console for standard output."""
    from rich.console import Console  # few commands print a table

    is_pipe = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(soft_wrap=False, highlight=False, emoji=False, width=WIDTH_OF_PIPES if is_pipe else None)


def errors() -> Console:
    """Return a rich console for standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print each row as a JSON object on its own line."""
    for row in rows:
        sys.stdout.write(json_text(row) + "\n")
    sys.stdout.flush()


@cache
def _encoder() -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, default=json_value)  # `json.dumps` would create an encoder for each row


def json_text(value: Any) -> str:
    """Return a value as JSON on one line, with non-printable characters escaped."""
    text = _encoder().encode(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str, optional: Sequence[str] = ()
) -> None:
    """Print a table, or the sentence `empty` if there are no rows.

    Args:
        rows: The values of each row, of any type. They are printed as plain text, never as markup.
        optional: The columns that a narrow terminal may omit, in the order in which they are omitted.
    """
    shown = fitted(title, columns, rows, optional=optional)
    if len(shown.rows) > MAX_FITTED_ROWS:
        _print_lines(shown)
        return
    console().print(shown if shown.rows else empty, markup=False, crop=False)


def _print_lines(shown: FittedTable) -> None:
    """Print each row as one line, with columns as wide as their longest value."""
    header = tuple(" ".join(column.split()) for column in shown.columns)
    widths = [max(map(len, column)) for column in zip(header, *shown.rows, strict=True)]
    lines = (
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *shown.rows)
    )
    print(shown.title, *lines, sep="\n")


def fitted(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, optional: Sequence[str] = ()
) -> FittedTable:
    """Return a table to print with `crop=False`, so that rich does not cut long lines. The arguments are those of
    `table`.
    """
    from workers.cli.tables import FittedTable

    cells = tuple(tuple(plain(value) for value in row) for row in rows)
    return FittedTable(title, tuple(columns), cells, tuple(optional))


def message_state(state: str) -> str:
    """Return the state of an outgoing message in words, such as "in delivery" for "frozen"."""
    from scanner.records.states import NotificationState  # `r8scan scan` does not need this import

    return "in delivery" if state == NotificationState.FROZEN else str(state)


def ago(at: datetime | None, now: datetime) -> str | None:
    """Return a text such as "3 h ago" or "in 90 s", or None if `at` is None."""
    if at is None:
        return None
    seconds = (now - at).total_seconds()
    return "now" if abs(seconds) < 1 else f"{short_span(seconds)} ago" if seconds > 0 else f"in {short_span(-seconds)}"


def short_span(seconds: float) -> str:
    """Return a duration as text, such as "90 s" or "3 h"."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def plain(value: Any) -> str:
    """Return a value as one line of text, with non-printable characters replaced."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    text = str(value)
    return text if text.isprintable() else "".join(char if char.isprintable() else "�" for char in text)


def json_value(value: Any) -> str:
    """Return the text for a value that JSON does not support. Times are in ISO 8601 format."""
    return value.isoformat() if isinstance(value, datetime) else str(value)

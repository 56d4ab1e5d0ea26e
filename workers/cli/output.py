"""The output of commands: tables for people, one JSON object per line for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_OF_PIPES = 140
"""Width in characters if there is neither a terminal nor the variable COLUMNS."""


def console() -> Console:
    """Return a console on standard output, as wide as the terminal."""
    is_pipe = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(soft_wrap=False, highlight=False, width=WIDTH_OF_PIPES if is_pipe else None)


def errors() -> Console:
    """Return a console on standard error, for progress and summaries."""
    return Console(stderr=True, highlight=False)


def json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object per line, as soon as each row arrives."""
    for row in rows:
        sys.stdout.write(json.dumps(row, ensure_ascii=False, default=json_value) + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print a table, or the sentence `empty` if there are no rows. Values are printed as text, never as markup."""
    shown = grid(title, columns, rows)
    console().print(shown if shown.row_count else empty, markup=False)


def grid(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a table to be printed with others, without vertical lines, so that it fits 80 characters."""
    found = Table(
        title=title,
        title_justify="left",
        title_style="bold italic",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for number, column in enumerate(columns):
        found.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        found.add_row(*(Text(plain(value)) for value in row))
    return found


def plain(value: Any) -> str:
    """Return any value as one line of printable text. Control characters become visible."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    return "".join(char if char.isprintable() else "�" for char in str(value))


def json_value(value: Any) -> str:
    """Return a value that JSON cannot represent as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)

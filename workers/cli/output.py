"""What commands print: tables for people, one JSON object a line for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def console() -> Console:
    """A console on standard output, as wide as the terminal."""
    return Console(soft_wrap=False, highlight=False)


def errors() -> Console:
    """A console on standard error, for progress and summaries."""
    return Console(stderr=True, highlight=False)


def json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """One object a line, as rows come."""
    for row in rows:
        sys.stdout.write(json.dumps(row, ensure_ascii=False, default=json_value) + "\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """A table, or the sentence for none. Values are text, never markup."""
    grid = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(plain(value)) for value in row))
    out = console()
    out.print(grid if grid.row_count else empty, markup=False)


def plain(value: Any) -> str:
    """One line of printable text for any value; hostile control characters become visible."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    return "".join(char if char.isprintable() else "�" for char in str(value))


def json_value(value: Any) -> str:
    """What JSON has no form for, as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)

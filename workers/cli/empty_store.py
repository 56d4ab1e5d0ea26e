"""Warns if r8scan's own token store (an SQL table) contains no token."""

from __future__ import annotations

import typer

from scanner.records.database import Database
from scanner.settings import Settings
from workers.cli import output
from workers.health import machine, tokens


def warn(database: Database, settings: Settings) -> bool:
    """Return whether the token store is r8scan's own and contains no token. If so, print a warning."""
    with database.read() as session:
        is_empty = tokens.is_empty(session, settings)
    if is_empty:
        line = f"no token is known in the database {machine.database(settings)}, so every token counts as unknown"
        typer.echo(output.plain(f"{line}: {tokens.IMPORT}"), err=True)
    return is_empty

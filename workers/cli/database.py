"""`r8scan db`: upgrades the database's tables, and shows their version."""

from __future__ import annotations

import typer

from scanner.records import schema
from workers.cli.groups import Group
from workers.cli.opening import opened_context

app = Group("The database's tables and their version.")


@app.command()
def upgrade() -> None:
    """Upgrade the database to the tables of this version.

    Repeating the command, or running it twice at the same time, is safe.

    Example: R8SCAN_DATABASE_URL=postgresql://r8scan@db/r8scan r8scan db upgrade
    """
    with opened_context(creates_tables=False) as context:
        before, after = schema.upgrade(context.database)
    typer.echo(f"already at revision {after}" if before == after else f"upgraded from {before or 'empty'} to {after}")


@app.command()
def current() -> None:
    """Show the revision of the database and the one that this version needs. Exit status 1 if they differ."""
    with opened_context(creates_tables=False) as context:
        found, wanted = schema.current_revision(context.database), schema.newest_revision()
    typer.echo(f"database: {found or 'empty'}, wanted: {wanted}")
    if found != wanted:
        raise typer.Exit(1)

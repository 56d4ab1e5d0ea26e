"""`r8scan db`: the tables and their version."""

from __future__ import annotations

import typer

from scanner.records import schema
from scanner.records.database import Database
from scanner.settings import load_settings

app = typer.Typer(help="The database's tables and their version.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Bring the database to this version's tables. Safe to repeat, and while others do the same.

    Example: R8SCAN_DATABASE_URL=postgresql://r8scan@db/r8scan r8scan db upgrade
    """
    database = Database(load_settings().database_url.get_secret_value())
    before, after = schema.upgrade(database)
    database.close()
    typer.echo(f"already at revision {after}" if before == after else f"upgraded from {before or 'empty'} to {after}")


@app.command()
def current() -> None:
    """Show the database's revision and the one that this version wants; exit status 1 if they differ."""
    database = Database(load_settings().database_url.get_secret_value())
    found, wanted = schema.current_revision(database), schema.newest_revision()
    database.close()
    typer.echo(f"database: {found or 'empty'}, wanted: {wanted}")
    if found != wanted:
        raise typer.Exit(1)

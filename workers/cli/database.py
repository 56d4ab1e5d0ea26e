"""The `r8scan db` commands, which upgrade the database's tables and show their version."""

from __future__ import annotations

from contextlib import closing

import typer

from scanner.records import schema
from scanner.records.database import Database
from scanner.settings import load_settings
from workers.cli.groups import Group
from workers.cli.opening import opened_database

app = Group("Create or upgrade the database's tables, and show their version.")


@app.command()
def upgrade() -> None:
    """Create the tables that this version of r8scan needs, or upgrade the existing tables.

    It is safe to repeat the command, or to run it twice at the same time.

    Example: R8SCAN_DATABASE_URL=postgresql://r8scan@db/r8scan r8scan db upgrade
    """
    with closing(Database(load_settings().database_url.get_secret_value())) as database:
        before, after = schema.upgrade(database)
    typer.echo(f"already at revision {after}" if before == after else f"upgraded from {before or 'empty'} to {after}")


@app.command()
def current() -> None:
    """Show the revision of the database's tables, and the revision that this version of r8scan needs. Exit status 1 if
    they differ.
    """
    with opened_database(load_settings(), any_version=True) as database:
        found, wanted = schema.current_revision(database), schema.newest_revision()
    typer.echo(f"database: {found or 'empty'}, wanted: {wanted}")
    if found != wanted:
        raise typer.Exit(1)

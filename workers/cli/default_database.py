"""Checks that a command's database exists, and creates the default database with its tables."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from scanner.records.database import parse_url
from scanner.settings import Settings

MAX_EMPTY_BYTES = 64 << 10
"""An SQLite file with more bytes than this certainly has tables."""


def require_database(settings: Settings) -> None:
    """Raise UserError if the database is a file that does not exist."""
    url = parse_url(settings.database_url.get_secret_value())
    file = Path(str(url.database))
    try:
        if url.get_backend_name() != "sqlite" or file.exists():
            return
    except OSError:
        return  # opening the database reports this error later
    from workers.cli.errors import UserError  # only errors need this import

    if settings.is_default_database:
        raise UserError(
            f"there is no r8scan installation here: {file} does not exist; start r8scan run, or set R8SCAN_STATE_DIR"
            " or R8SCAN_DATABASE_URL as they are set for the service"
        )
    raise UserError(
        f"there is no database: {file} does not exist; correct R8SCAN_DATABASE_URL, or run r8scan db upgrade to"
        " create it"
    )


def create_default_tables(settings: Settings) -> str | None:
    """Create the tables of the default database. Do nothing if it has tables, or if R8SCAN_DATABASE_URL is set.

    Returns:
        A line that names the new database, because the operator may be in a wrong folder. None if nothing was created.
    """
    if not settings.is_default_database:
        return None
    file = Path(settings.database_url.get_secret_value().removeprefix("sqlite:///"))
    if not _is_empty(file):
        return None
    from workers.short_child import upgrade_in_child  # commands rarely need this import

    upgrade_in_child(settings.database_url.get_secret_value())
    return (
        f"created the database {file}, because there was none; if the service uses another one, remove this one and set"
        " R8SCAN_STATE_DIR or R8SCAN_DATABASE_URL as they are set for the service"
    )


def _is_empty(file: Path) -> bool:
    """Return whether the file is missing or is a database without tables."""
    import sqlite3

    try:
        if not file.exists() or not (size := file.stat().st_size):
            return True
        if size > MAX_EMPTY_BYTES:
            return False
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0])
    except (OSError, sqlite3.Error):
        return False  # opening the database reports this error later

"""Opens the context (settings, database, clients) of a command, and closes it at the command's end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scanner.records.database import Database, parse_url
from scanner.settings import Settings, load_settings

if TYPE_CHECKING:
    from workers.context import Context

MAX_EMPTY_BYTES = 64 << 10
"""A SQLite file of at least this size has tables, so it need not be opened to find that out."""


@contextmanager
def opened_context(*, read_dotenv: bool = True, creates_tables: bool = False) -> Iterator[Context]:
    """Load the settings and yield a context, which opens database, token store and clients when they are first used.

    Args:
        read_dotenv: Also read `.env` in the working folder. Set it to False in commands that scan foreign folders.
        creates_tables: Create the default database and its tables if they are missing. Only a command that an operator
            may run before the service was ever started sets it. Any other command would show an empty service if it is
            run with other settings than the service; its first use of the database raises UserError.

    Raises:
        SettingsError: a setting is wrong.
    """
    from workers.cli.command_context import CommandContext  # late: importing it takes longer than most commands

    context = CommandContext(load_settings(read_dotenv=read_dotenv), creates_tables=creates_tables)
    try:
        yield context
    finally:
        context.close()


@contextmanager
def opened_database(settings: Settings) -> Iterator[Database]:
    """Yield the database alone, for commands that need no client and create nothing.

    Raises:
        UserError: the database is a file that does not exist.
    """
    require_database(settings)
    with closing(Database(settings.database_url.get_secret_value())) as database:
        yield database


def require_database(settings: Settings) -> None:
    """Raise UserError if the database is a file that does not exist. Opening the database would create the file."""
    url = parse_url(settings.database_url.get_secret_value())
    file = Path(str(url.database))
    try:
        if url.get_backend_name() != "sqlite" or file.exists():
            return
    except OSError:
        return  # opening the database will give the reason
    from workers.cli.errors import UserError  # late: a command without an error does not need it

    if settings.is_default_database:
        raise UserError(
            f"there is no r8scan installation here: {file} does not exist; start r8scan run, or set R8SCAN_STATE_DIR"
            " or R8SCAN_DATABASE_URL as they are set for the service"
        )
    raise UserError(
        f"there is no database: {file} does not exist; correct R8SCAN_DATABASE_URL, or run r8scan db upgrade to"
        " create it"
    )


def create_default_tables(settings: Settings) -> None:
    """Create the tables if the database is the default one in the state folder and has none.

    A database that R8SCAN_DATABASE_URL names is left alone, because a typing error there must not create a new one.
    Tables of another version are left alone as well: `r8scan db upgrade` and `r8scan run` upgrade them.
    """
    if not settings.is_default_database:
        return
    file = Path(settings.database_url.get_secret_value().removeprefix("sqlite:///"))
    if not _is_empty(file):
        return
    from scanner.records import schema  # late: alembic is needed only here

    with closing(Database(settings.database_url.get_secret_value())) as database:
        schema.upgrade(database)


def _is_empty(file: Path) -> bool:
    """Return whether the file is missing, or is a database without a table, which an interrupted first start leaves."""
    import sqlite3

    try:
        if not file.exists() or not (size := file.stat().st_size):
            return True
        if size > MAX_EMPTY_BYTES:
            return False
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0])
    except (OSError, sqlite3.Error):
        return False  # opening the database will give the reason

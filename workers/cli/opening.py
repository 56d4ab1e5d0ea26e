"""Opens and closes the settings, database and clients of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from scanner.records import versions
from scanner.records.database import Database
from scanner.settings import Settings, load_settings
from workers.cli.default_database import require_database

if TYPE_CHECKING:
    from workers.context import Context


@contextmanager
def opened_context(*, read_dotenv: bool = True, creates_tables: bool = False) -> Iterator[Context]:
    """Yield a context: an object with the settings, the database, the token store and the clients.

    Args:
        read_dotenv: Also read settings from `.env` in the working folder. This must be False if that folder is
            untrusted.
        creates_tables: Create the default database and its tables if they are missing.

    Raises:
        SettingsError: A setting is wrong.
    """
    from workers.cli.command_context import CommandContext  # this import is slow

    context = CommandContext(load_settings(read_dotenv=read_dotenv), creates_tables=creates_tables)
    try:
        yield context
    finally:
        context.close()


@contextmanager
def opened_database(settings: Settings, *, any_version: bool = False) -> Iterator[Database]:
    """Yield the database.

    Args:
        any_version: Allow a database with the tables of another version of r8scan.

    Raises:
        UserError: The database is a file that does not exist.
        WrongVersion: The database's tables are missing, or another version of r8scan created them.
    """
    require_database(settings)
    with closing(Database(settings.database_url.get_secret_value())) as database:
        if not any_version:
            versions.check(database)
        yield database

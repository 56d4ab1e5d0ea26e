"""The opening and closing of a command's context (settings, database, clients)."""

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
    """Load the settings and yield a context, which opens database, token store and clients when they are first used.

    Args:
        read_dotenv: Also read `.env` in the working folder. Commands that scan foreign folders set it to False.
        creates_tables: Create the default database and its tables if they are missing. Only commands that an operator
            may run before the first start of the service set this. For other commands, a missing database means that
            their settings are not those of the service. The first use of the database then raises UserError.

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
def opened_database(settings: Settings, *, any_version: bool = False) -> Iterator[Database]:
    """Yield the database, for commands that need no clients and create no tables.

    Args:
        settings: The settings of the command.
        any_version: Also open a database with the tables of another version. The command says so itself.

    Raises:
        UserError: the database is a file that does not exist.
        WrongVersion: the database has the tables of another version, or none.
    """
    require_database(settings)
    with closing(Database(settings.database_url.get_secret_value())) as database:
        if not any_version:
            versions.check(database)
        yield database

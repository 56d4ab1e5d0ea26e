"""The context (database, clients, token store) of a command.

It refuses a database that is missing or that a newer version has upgraded, or creates a missing one.
"""

from __future__ import annotations

from functools import cached_property

from scanner.records import versions
from scanner.records.database import Database
from scanner.settings import Settings
from workers.cli.default_database import create_default_tables, require_database
from workers.context import Context


class CommandContext(Context):
    """The context of one command, whose database is checked when it is first used.

    Args:
        settings: The settings of the command.
        creates_tables: Create the default database if it is missing; see `opened_context`.
    """

    def __init__(self, settings: Settings, *, creates_tables: bool) -> None:
        super().__init__(settings)
        self._creates_tables = creates_tables

    @cached_property
    def database(self) -> Database:
        if self._creates_tables:
            create_default_tables(self.settings)
        require_database(self.settings)
        database = super().database
        versions.check(database)
        return database

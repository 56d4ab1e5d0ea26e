"""The context (database, clients, token store) of a command.

It creates the tables of an empty default database. It refuses a database that a newer version has upgraded.
"""

from __future__ import annotations

from functools import cached_property

from scanner.records import versions
from scanner.records.database import Database
from workers.cli.opening import create_default_tables
from workers.context import Context


class CommandContext(Context):
    """The context of one command, whose database is checked when it is first used."""

    @cached_property
    def database(self) -> Database:
        create_default_tables(self.settings)
        database = super().database
        versions.check(database)
        return database

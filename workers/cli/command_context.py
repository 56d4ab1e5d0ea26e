"""The context of a command. It creates the tables of an empty default database, and refuses a newer database."""

from __future__ import annotations

from functools import cached_property

from scanner.records import versions
from scanner.records.database import Database
from workers.cli.opening import create_default_tables
from workers.context import Context


class CommandContext(Context):
    """A context for one command."""

    @cached_property
    def database(self) -> Database:
        create_default_tables(self.settings)
        database = super().database
        versions.check(database)
        return database

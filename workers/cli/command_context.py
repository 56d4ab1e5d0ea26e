"""The context of a command, which also creates the tables of an empty default database."""

from __future__ import annotations

from functools import cached_property

from scanner.records.database import Database
from workers.cli.opening import create_default_tables
from workers.context import Context


class CommandContext(Context):
    """A context for one command."""

    @cached_property
    def database(self) -> Database:
        create_default_tables(self.settings)
        return super().database

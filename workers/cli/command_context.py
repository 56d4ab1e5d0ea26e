"""The settings, database and clients that a command uses."""

from __future__ import annotations

from functools import cached_property

import typer

from scanner.records import versions
from scanner.records.database import Database
from scanner.settings import Settings
from workers.cli.default_database import create_default_tables, require_database
from workers.context import Context


class CommandContext(Context):
    """The settings, database and clients of one command.

    Reading `database` raises UserError or WrongVersion if the command cannot use the database.
    """

    def __init__(self, settings: Settings, *, creates_tables: bool) -> None:
        super().__init__(settings)
        self._creates_tables = creates_tables

    @cached_property
    def database(self) -> Database:
        if self._creates_tables and (created := create_default_tables(self.settings)):
            typer.echo(created, err=True)
        require_database(self.settings)
        database = super().database
        versions.check(database)
        return database

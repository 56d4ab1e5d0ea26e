"""Crashes at chosen points: after any statement that a database has run, and wherever else a test says."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event

from scanner.records.database import Database


class Crash(BaseException):
    """The worker is dead: nothing after this runs, no clean-up of ours either."""


@dataclass
class Injected:
    """Counts points at which a crash could happen, and crashes at one of them (`at`; -1: at none)."""

    at: int = -1
    points: int = 0

    def point(self) -> None:
        """A point at which the worker may die."""
        number = self.points
        self.points += 1
        if number == self.at:
            raise Crash

    @contextmanager
    def watching(self, database: Database) -> Iterator[None]:
        """Every statement is a point, after it has run; a BEGIN is none that could leave anything behind."""

        def after(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            del connection, cursor
            if not statement.startswith("BEGIN"):
                self.point()

        event.listen(database.engine, "after_cursor_execute", after)
        try:
            yield
        finally:
            event.remove(database.engine, "after_cursor_execute", after)


def crashes(database: Database, injected: Injected, run: Callable[[], object]) -> bool:
    """Run until the crash; whether it came. What the dead worker held is given free, as its end would do."""
    _freeze()
    try:
        with injected.watching(database):
            run()
    except Crash:
        crashed = True
    else:
        crashed = False
    gc.collect()  # cursors live on in the frames of a traceback, and SQLite's lock with them
    return crashed


@functools.cache
def _freeze() -> None:
    """What lives now lives on: looking through all modules for garbage at each crash would take half of the time."""
    gc.collect()
    gc.freeze()

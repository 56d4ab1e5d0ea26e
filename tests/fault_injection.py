"""Simulates the crash of a worker at points that a test chooses, for example after each SQL statement."""

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
    """The simulated crash. It is a BaseException, so that `except Exception` does not catch it."""


@dataclass
class Injected:
    """Counts the points at which a crash is possible, and raises Crash at one of them.

    `at` is the number of this point, from 0. With -1, nothing crashes.
    """

    at: int = -1
    points: int = 0

    def point(self) -> None:
        number = self.points
        self.points += 1
        if number == self.at:
            raise Crash

    @contextmanager
    def watching(self, database: Database) -> Iterator[None]:
        """Count a possible crash after every SQL statement except BEGIN, until the `with` block ends."""

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
    """Call `run` and return whether it raised Crash. Then close all database connections."""
    _freeze()
    try:
        with injected.watching(database):
            run()
    except Crash:
        crashed = True
    else:
        crashed = False
    # The exception's traceback keeps database cursors alive, and these hold SQLite's lock. Delete them now.
    gc.collect()
    return crashed


@functools.cache
def _freeze() -> None:
    """Exclude all existing objects from garbage collection, to make the simulated crashes faster."""
    gc.collect()
    gc.freeze()

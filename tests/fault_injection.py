"""Simulates the crash of a worker after any SQL statement, or at another point of a test."""

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
    """The simulated crash. It is a BaseException, so that error handling does not catch it."""


@dataclass
class Injected:
    """Counts the points at which a crash is possible, and raises Crash at one of them.

    `at` is the number of that point, from 0 on. With -1 nothing crashes, and a test can count the points.
    """

    at: int = -1
    points: int = 0

    def point(self) -> None:
        """Count a point at which a crash is possible. Raise Crash if it is the chosen point."""
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
    """Call `run` and return whether it crashed. Close all database connections, as the end of a process would."""
    _freeze()
    try:
        with injected.watching(database):
            run()
    except Crash:
        crashed = True
    else:
        crashed = False
    # A traceback keeps the database cursors alive, and these keep SQLite's lock. Delete all of them now.
    gc.collect()
    return crashed


@functools.cache
def _freeze() -> None:
    """Exclude all existing objects from garbage collection, which would otherwise double the time of each crash."""
    gc.collect()
    gc.freeze()

"""Simulates the crash of a worker, after a chosen SQL statement or at another point that a test defines."""

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
    """The simulated death of the worker. It is a BaseException, so that code that handles errors does not catch it."""


@dataclass
class Injected:
    """Counts the points at which a crash could happen, and raises Crash at one of them.

    `at` is the number of the point that crashes. The first point is 0. With -1 nothing crashes, so that a test can
    count the points.
    """

    at: int = -1
    points: int = 0

    def point(self) -> None:
        """Count a point at which the worker may crash. Raise Crash if it is the chosen point."""
        number = self.points
        self.points += 1
        if number == self.at:
            raise Crash

    @contextmanager
    def watching(self, database: Database) -> Iterator[None]:
        """Count a point after every SQL statement while the block runs. Leave out BEGIN, because a crash after it has
        no effect.
        """

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
    """Call `run`, and return whether it crashed. Then release all database connections, as the end of a process
    would.
    """
    _freeze()
    try:
        with injected.watching(database):
            run()
    except Crash:
        crashed = True
    else:
        crashed = False
    gc.collect()  # the frames of a traceback keep cursors alive, and these keep SQLite's lock
    return crashed


@functools.cache
def _freeze() -> None:
    """Exclude all existing objects from garbage collection. Otherwise the collection after each crash would take half
    of the time of a crash.
    """
    gc.collect()
    gc.freeze()

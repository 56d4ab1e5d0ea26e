"""Crashes at chosen points: after any statement of a database, and at further points that a test defines."""

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
    """Simulates the death of the worker. No code after this may run, including clean-up code."""


@dataclass
class Injected:
    """A counter of the points at which a crash could happen. It crashes at point `at`, or never if `at` is -1."""

    at: int = -1
    points: int = 0

    def point(self) -> None:
        """Mark a point at which the worker may crash."""
        number = self.points
        self.points += 1
        if number == self.at:
            raise Crash

    @contextmanager
    def watching(self, database: Database) -> Iterator[None]:
        """Mark a point after every statement except BEGIN, because a crash there has no effect."""

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
    """Run `work`, and return whether it crashed. Release the worker's connections, as the end of a process would."""
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
    """Exclude all living objects from garbage collection, which would otherwise take half of the time of a crash."""
    gc.collect()
    gc.freeze()

"""Calls a function in a forked process that then ends, so that the modules it imports use no memory afterwards."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

from scanner.child_processes import die_with_parent
from scanner.records.database import Database

Result = TypeVar("Result")


class ChildEnded(Exception):
    """Raised if the process was killed before it returned a result, or if its result or exception cannot be pickled."""


def call_in_child(function: Callable[[], Result]) -> Result:
    """Return the result of `function`, or raise its exception. Both must be picklable.

    The function runs in a forked process and must not use this process's connections. If forking is impossible, it runs
    in this process.

    Raises:
        ChildEnded: The process was killed, or its result cannot be pickled.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return function()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        try:
            die_with_parent(parent)
            with open(writer, "wb") as file:
                file.write(_answer(function))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(pid, 0)
    if not answer:
        raise ChildEnded(f"a process ended with status {os.waitstatus_to_exitcode(status)} before it had a result")
    is_result, value = pickle.loads(answer)  # noqa: S301 - this process's own fork has written it
    if is_result:
        result: Result = value
        return result
    raise value


def upgrade_in_child(url: str) -> tuple[str | None, str]:
    """Upgrade the database to the newest revision in a child process, because alembic takes 9 MB.

    Returns:
        The revision before the upgrade (None for an empty database), and the newest revision.

    Raises:
        WrongVersion: A newer version of r8scan has upgraded the database.
    """
    return call_in_child(lambda: _upgrade(url))


def _upgrade(url: str) -> tuple[str | None, str]:
    from scanner.records import schema  # imported only in the child, because it loads alembic

    with closing(Database(url)) as database:
        return schema.upgrade(database)


def _answer(function: Callable[[], Any]) -> bytes:
    """Return the pickled result or exception of `function`."""
    try:
        answer = (True, function())
    except BaseException as err:  # noqa: BLE001 - the parent process raises it
        answer = (False, err)
    try:
        pickled = pickle.dumps(answer)
        pickle.loads(pickled)  # noqa: S301 - some exceptions can be pickled, but not unpickled
    except Exception:  # noqa: BLE001 - the parent process raises it
        pickled = pickle.dumps((False, ChildEnded(f"{type(answer[1]).__name__}: {answer[1]}")))
    return pickled

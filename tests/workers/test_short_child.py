"""Tests that a function in a child process returns or raises as it would in the calling process.

The calling process does not import the modules that the child process imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, signal, sys
from scanner.records import versions
from scanner.records.database import Database, is_unavailable
from scanner.settings import load_settings
from workers.short_child import ChildEnded, call_in_child
from workers.supervisor import CannotRun, prepare

class Unpicklable(Exception):
    def __init__(self, first, second):
        super().__init__(first)

def fail(err):
    raise err

def open_missing():
    with Database("sqlite:////dev/null/x").read() as session:
        session.connection()

def error_of(function):
    try:
        function()
    except Exception as err:
        return err

assert call_in_child(lambda: (os.getppid(), "result")) == (os.getpid(), "result")
assert repr(error_of(lambda: call_in_child(lambda: fail(KeyError("x"))))) == "KeyError('x')"
print(error_of(lambda: call_in_child(lambda: fail(Unpicklable("first", 2)))))
print(error_of(lambda: call_in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))))
print(is_unavailable(error_of(lambda: call_in_child(open_missing))))
prepare(load_settings())
print("imported:", *[name for name in ("alembic", "mako") if name in sys.modules])
with Database(load_settings().database_url.get_secret_value()).read() as session:
    print("upgraded:", versions.present(session) == versions.wanted())
"""


def test_what_a_child_process_returns_raises_and_imports(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "R8SCAN_STATE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == [
        "Unpicklable: first",
        "a process ended with status -9 before it had a result",
        "True",
        "imported:",
        "upgraded: True",
    ], done.stderr

"""Tests for services in forked processes: exit status, environment, signal handlers and open files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workers import forked

PROGRAM = """
import json, os, signal, sys, time
from workers import forked

file = open(sys.argv[1], "w")
signal.signal(signal.SIGTERM, lambda *_: None)

def show():
    found = {"variable": os.environ["OWN"], "session": os.getsid(0) == os.getpid()}
    found["is_default"] = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    found["has_file"] = any(os.path.realpath(f"/proc/self/fd/{one}") == sys.argv[1] for one in range(20))
    print(json.dumps(found), flush=True)
    sys.exit(3)

assert forked.can_fork()
first = forked.fork(show, {"OWN": "its own"})
second = forked.fork(lambda: time.sleep(60), {})
third = forked.fork(lambda: 1 / 0, {})
assert second.poll() is None
second.send_signal(signal.SIGTERM)
print(json.dumps([first.wait(30), second.wait(30), third.wait(30), first.poll()]))
"""


def test_a_fork_is_a_separate_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "file")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.count("\n") == 2, done
    shown, statuses = map(json.loads, done.stdout.splitlines())
    assert shown == {"variable": "its own", "session": True, "is_default": True, "has_file": False}
    assert statuses == [3, -15, forked.FAILED, 3]
    assert "ZeroDivisionError" in done.stderr


WORKER = """
import os, sys, time
from workers import forked
from workers.supervisor import Supervisor
from scanner.records.database import Database
from scanner.records.health_models import Heartbeat
from scanner.settings import load_settings
from sqlalchemy import select

parent = os.getpid()

class Late:
    def find_spec(self, name, path=None, target=None):
        if os.getpid() != parent:
            print("the fork imports", name, flush=True)

sys.meta_path.insert(0, Late())
role = sys.argv[1]
service = Supervisor(load_settings(), processes=1, only=[role])
service._start_all()
unused = ["alembic", "httpx._main", "opentelemetry", "pygments", "rich", "starlette", "uvicorn"]
if role == "scanner":
    unused += ["jinja2", "notifications.email", "workers.beat", "workers.health.overview", "workers.tasks.polling"]
print("the supervisor has imported", [name for name in unused if sys.modules.get(name)], flush=True)
database = Database(load_settings().database_url.get_secret_value())
takes_messages, deadline = False, time.monotonic() + 60
while not takes_messages and time.monotonic() < deadline:
    time.sleep(0.1)
    with database.read() as session:
        takes_messages = session.execute(select(Heartbeat)).first() is not None
service._drain()
print("it took messages", takes_messages)
"""


@pytest.mark.parametrize("role", ["poller", "scanner"])
def test_a_forked_worker_imports_nothing_and_the_supervisor_nothing_that_no_service_uses(
    tmp_path: Path, upgraded_sqlite: Path, redis_socket: str, role: str
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    shutil.copy(upgraded_sqlite, state / "r8scan.db")
    environment = {
        "PATH": os.environ["PATH"],
        "R8SCAN_STATE_DIR": str(state),
        "R8SCAN_REDIS_URL": f"redis+socket://{redis_socket}?virtual_host=6",
        "R8SCAN_SOURCES": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", WORKER, role],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.splitlines() == ["the supervisor has imported []", "it took messages True"], done.stderr


def test_changed_files_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "upgraded_package"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(forked, "PACKAGES", ("upgraded_package",))
    before = forked.fingerprint()
    assert forked.fingerprint() == before
    os.utime(package / "__init__.py", (1, 1))
    assert forked.fingerprint() != before

"""`make fault-table`: breaks the parts of a running service one after another, and measures after how many seconds the
status names the fault.

The processes are real. They are started as in a larger deployment, and no supervisor restarts them. PostgreSQL and
Redis are real. GitHub, mail server and token store run on loopback. A fault passes if the status names its problem
within 60 seconds, and no longer names it 60 seconds after the fault has ended. Some faults are only simulated, and the
table says so: wrong clocks, a full database and, without root's rights, a full disk. `--only TEXT` runs the faults
whose name contains the text; `--write` writes the table.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import psycopg
import redis

from scanner.child_processes import start_child
from scanner.detection import sha256_digest
from scanner.records.database import Database
from scanner.settings import Settings, load_settings
from tests.servers import postgresql_server, redis_server
from workers.health.overview import overview
from workers.health.problems import Problem
from workers.sandbox import token_store, world
from workers.sandbox.token_store import ReferenceStore
from workers.sandbox.world import World

LIMIT_SECONDS = 60.0
GIVE_UP_SECONDS = 150.0
QUIET_SECONDS = 60.0
QUOTA = 5000
"""Requests an hour that github.com allows for a token."""
PAGE = Path(__file__).parent.parent.parent / "docs" / "operations.md"
BEGIN, END = "<!-- fault table: make fault-table -->", "<!-- end of the fault table -->"
CELERY = (sys.executable, "-m", "celery", "-A", "workers")
WORKER = (*CELERY, "worker", "--without-gossip", "--without-mingle", "-Q")
COMMANDS = {
    "poller": (*WORKER, "polling", "-P", "threads", "-c", "4"),
    "responder": (*WORKER, "responding,notifying", "-P", "threads", "-c", "16"),
    "scanner": (*WORKER, "scanning", "-c", "2"),
    "rescanner": (*WORKER, "rescans", "-P", "threads", "-c", "3"),
    "beat": (*CELERY, "beat", "--pidfile="),
    "web": (sys.executable, "-m", "workers", "serve"),
}
ELSEWHERE = """
import platform, runpy, sys, time
real = time.time
time.time = lambda: real() + 86400
platform.node = lambda: "elsewhere"
runpy.run_module("celery", run_name="__main__")
"""
SECRET = "the-secret-of-the-store"
IGNORED = ("source_error:repository_search", "source_error:new_repositories", "source_error:code_search")
"""Problems to ignore: sources that need a credential are on by default, and this service has no credential."""


class Service:
    """A running service and the servers around it, with a method for each way to break them."""

    def __init__(self, surroundings: World, store: ReferenceStore, database_url: str, redis_socket: str) -> None:
        self.world, self.store = surroundings, store
        self.database_url, self.redis_socket = database_url, redis_socket
        self.database = Database(database_url, max_connections=2)
        names: dict[str, Any] = {
            name.removeprefix("R8SCAN_").lower(): value for name, value in surroundings.settings.items()
        }
        self.settings: Settings = load_settings(**names)
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.stack = ExitStack()
        self.redis = ExitStack()
        self.redis.enter_context(redis_server(redis_socket))
        self.clock_off = 0.0

    def start(self, *roles: str) -> None:
        for role in roles or COMMANDS:
            self.start_command(role, COMMANDS[role])

    def start_command(self, name: str, command: tuple[str, ...]) -> None:
        output = self.stack.enter_context((self.world.folder / f"{name}.log").open("ab"))
        env = self.world.environment()
        self.children[name] = start_child(list(command), env=env, own_group=True, stdout=output, stderr=output)

    def send(self, number: signal.Signals, *roles: str) -> None:
        for role in roles:
            os.killpg(self.children[role].pid, number)
            if number in (signal.SIGKILL, signal.SIGTERM):
                self.children[role].wait()

    def stop(self) -> None:
        for child in self.children.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self.stack.close()
        self.redis.close()
        self.database.close()

    def problems(self) -> list[Problem]:
        """Return the problems that the status shows now, except those in IGNORED."""
        real = time.time

        def shifted() -> float:
            return real() + self.clock_off

        # Open a new connection, as each `r8scan status` does. An old connection would wait for ever while PostgreSQL is
        # stopped.
        database = Database(self.database_url, max_connections=0)
        with mock.patch("workers.health.machine.time.time", shifted):
            found = overview(database, self.settings).problems
        return [one for one in found if one.key not in IGNORED]

    def administer(self, statement: str) -> None:
        name = self.database.url.database
        with psycopg.connect(self.database_url.replace(f"/{name}?", "/postgres?"), autocommit=True) as connection:
            connection.execute(statement.format(name=name).encode())
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    def in_database(self, statement: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def send_to_database(self, number: signal.Signals) -> None:
        """Send the signal to each process of PostgreSQL."""
        for child in psutil.Process().children(recursive=True):
            if child.name().startswith("postgres"):
                child.send_signal(number)

    def start_elsewhere(self) -> None:
        """Start a scanning process that reports another host name and has a clock that is a day ahead."""
        self.start_command("elsewhere", (sys.executable, "-c", ELSEWHERE, *COMMANDS["scanner"][3:]))

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=self.redis_socket)

    def fill_redis(self) -> None:
        with contextlib.closing(self.client()) as client:
            client.config_set("maxmemory", 1)

    def empty_redis(self) -> None:
        with contextlib.closing(self.client()) as client:
            client.config_set("maxmemory", 0)

    def start_redis(self) -> None:
        self.redis.enter_context(redis_server(self.redis_socket))

    def leak(self) -> None:
        """Push a new token to a new repository. The vendor's token store knows the token."""
        token = "r8_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(37))
        self.store.add(sha256_digest(token.encode()))
        name = f"ana/app{secrets.token_hex(4)}"
        self.world.github.create_repository(name)
        work = self.world.workplace(name, name.replace("/", "-"))
        work.write("app.py", f"x = '{token}'\n")
        work.commit("oops")
        work.push()

    def refuse_mails(self) -> None:
        self.world.mailbox.faults.extend(["421 4.3.2 not accepting messages"] * 10_000)
        self.leak()

    def refuse_tokens(self) -> None:
        self.store.accepts = lambda authorization: False  # type: ignore[method-assign]
        self.leak()

    def restore_quota(self) -> None:
        self.world.github.rate_limit = QUOTA
        self.in_database("UPDATE budgets SET resets_at = now()")

    def fill_disk(self) -> None:
        usage = shutil.disk_usage(self.settings.state_dir)
        with (self.settings.state_dir / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, usage.free - 300_000)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break the service, and to repair it.

    `says` is a regular expression that must match the problem in the status.
    """

    name: str
    says: str
    begin: Callable[[Service], object]
    end: Callable[[Service], object]


FULL_DATABASE = """
CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER is_full BEFORE UPDATE OR INSERT ON heartbeats FOR EACH STATEMENT EXECUTE FUNCTION is_full();
"""


def faults() -> list[Fault]:
    """Return all faults, in the order in which `main` tries them."""
    return [*_of_processes(), *_of_the_database(), *_of_other_servers(), *_of_the_machine()]


def _of_processes() -> list[Fault]:
    return [
        *(_silence(role, "killed", signal.SIGKILL) for role in COMMANDS),
        *(_silence(role, "stopped (SIGSTOP)", signal.SIGSTOP) for role in COMMANDS),
        Fault(
            "a queue without a consumer",
            r"^queue_without_consumer:rescans|no other process consumes rescans",
            lambda service: service.send(signal.SIGTERM, "rescanner"),
            lambda service: service.start("rescanner"),
        ),
        Fault(
            "Redis away", r"^redis_away.*does not answer", lambda service: service.redis.close(), Service.start_redis
        ),
        Fault("Redis full", r"^redis_away.*is full", Service.fill_redis, Service.empty_redis),
    ]


def _of_the_database() -> list[Fault]:
    return [
        Fault(
            "database away",
            r"^database_away",
            lambda service: service.administer('ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false'),
            lambda service: service.administer('ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true'),
        ),
        Fault(
            "database stopped (SIGSTOP)",
            r"^database_away.*(timeout|timed out)",
            lambda service: service.send_to_database(signal.SIGSTOP),
            lambda service: service.send_to_database(signal.SIGCONT),
        ),
        Fault(
            "database read-only",
            r"^database_read_only.*read-only",
            lambda service: service.administer('ALTER DATABASE "{name}" SET default_transaction_read_only = on'),
            lambda service: service.administer('ALTER DATABASE "{name}" RESET default_transaction_read_only'),
        ),
        Fault(
            "database full (error injected)",
            r"^database_read_only.*No space left",
            lambda service: service.in_database(FULL_DATABASE),
            lambda service: service.in_database("DROP TRIGGER is_full ON heartbeats; DROP FUNCTION is_full()"),
        ),
    ]


def _of_other_servers() -> list[Fault]:
    return [
        Fault(
            "mail server refuses",
            r"^message_waits.*421|^message_waits.*no mail can be sent",
            Service.refuse_mails,
            lambda service: service.world.mailbox.faults.clear(),
        ),
        Fault(
            "token store refuses",
            r"^store_away",
            Service.refuse_tokens,
            lambda service: service.store.__dict__.pop("accepts"),
        ),
        Fault(
            "GitHub's quota used up (its end injected: it ends with the hour)",
            r"^requests_limited.*used up",
            lambda service: setattr(service.world.github, "rate_limit", 1),
            Service.restore_quota,
        ),
    ]


def _of_the_machine() -> list[Fault]:
    return [
        Fault(
            "clock off by a day (the status's own clock, injected)",
            r"^clock_off.*24 hours ahead",
            lambda service: setattr(service, "clock_off", 86400.0),
            lambda service: setattr(service, "clock_off", 0.0),
        ),
        Fault(
            "clock of another host off by a day (its process's clock, injected)",
            r"^clock_off:elsewhere .*24 hours ahead",
            lambda service: service.start_elsewhere(),
            lambda service: service.send(signal.SIGTERM, "elsewhere"),
        ),
        Fault(
            "disk full",
            r"^disk_full",
            Service.fill_disk,
            lambda service: (service.settings.state_dir / "filler").unlink(),
        ),
    ]


def _silence(role: str, name: str, number: signal.Signals) -> Fault:
    """Return the fault that the process of this role is killed or stopped by a signal.

    At the fault's end, a killed process is started again and a stopped one continues.
    """

    def end(service: Service) -> None:
        service.start(role) if number == signal.SIGKILL else service.send(signal.SIGCONT, role)

    return Fault(f"{role} {name}", rf"^process_silent:{role} ", lambda service: service.send(number, role), end)


def shown(one: Problem) -> str:
    """Return a problem as one line: its key, a space, and its sentence."""
    return f"{one.key} {one.sentence}"


def seconds_until(ready: Callable[[], bool]) -> float | None:
    """Wait until the condition holds. Return the seconds that this took, or None after GIVE_UP_SECONDS."""
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > GIVE_UP_SECONDS:
            return None
        time.sleep(0.5)
    return time.monotonic() - began


def run(service: Service, fault: Fault) -> tuple[str, bool]:
    """Cause one fault and end it. Return the fault's row of the table, and whether it passed."""
    said: list[str] = []

    def is_named() -> bool:
        said[:] = [one.sentence for one in service.problems() if re.search(fault.says, shown(one))]
        return bool(said)

    fault.begin(service)
    named = seconds_until(is_named)
    words = said[0] if said else "; ".join(map(shown, service.problems()))
    if said and service.problems()[:1] and not re.search(fault.says, shown(service.problems()[0])):
        words += f" (after: {service.problems()[0].key})"
    fault.end(service)
    cleared = seconds_until(lambda: not service.problems())
    passed = named is not None and named <= LIMIT_SECONDS and cleared is not None and cleared <= LIMIT_SECONDS
    if cleared is None:
        words += f" (left: {'; '.join(map(shown, service.problems()))})"
    times = [f"{one:.0f} s" if one is not None else "never" for one in (named, cleared)]
    clean = re.sub(r"process \d+", "process N", re.sub(r"\([\w.-]+, process", "(HOST, process", words)).replace(
        "|", "/"
    )
    clean = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", re.sub(r"/tmp/r8pg-\w+", "FOLDER", clean))
    clean = clean.replace(str(service.settings.state_dir), "STATE").replace(service.redis_socket, "SOCKET")
    return f"| {fault.name} | {times[0]} | {times[1]} | {clean} |", passed


def free_port() -> int:
    """Return a port on loopback on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk of 40 MB at the folder, if this user may mount. Yield whether it is mounted."""
    folder.mkdir(mode=0o700, parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=40m,mode=700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def running(folder: Path) -> Iterator[tuple[Service, bool]]:
    """Run the whole service. Yield the service, and whether its state folder is on a disk of 40 MB."""
    store = ReferenceStore(SECRET)
    secret = folder / "secret"
    secret.write_text(SECRET)
    with (
        small_disk(folder / "w" / "state") as is_small,
        postgresql_server() as postgresql,
        token_store.running(store),
    ):
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute("CREATE DATABASE faults")
        database_url = postgresql.replace("/postgres?", "/faults?")
        redis_socket = str(folder / "redis.sock")
        settings = {
            "database_url": database_url,
            "redis_url": f"redis+socket://{redis_socket}",
            "token_store_url": store.url,
            "token_store_secret_file": str(secret),
            "canaries": "false",
            "web_port": str(free_port()),
        }
        with world.running(folder / "w", log_format="json", **settings) as own:
            service = Service(own, store, database_url, redis_socket)
            try:
                service.start()
                yield service, is_small
            finally:
                service.stop()


def main() -> int:
    """Run the faults. Return how many did not pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--quiet-minutes", type=float, default=QUIET_SECONDS / 60)
    wanted = parser.parse_args()
    rows, failed = [], 0
    with tempfile.TemporaryDirectory(prefix="r8faults-") as name, running(Path(name)) as (service, is_small):
        print(f"first without a problem after {seconds_until(lambda: not service.problems())} s", flush=True)
        seen = set()
        until = time.monotonic() + wanted.quiet_minutes * 60
        while time.monotonic() < until:
            seen |= {shown(one) for one in service.problems()}
            time.sleep(1)
        rows.append(f"| {wanted.quiet_minutes:g} quiet minutes | - | - | {'; '.join(sorted(seen)) or 'no problem'} |")
        print(rows[-1], flush=True)
        failed += bool(seen)
        for fault in faults():
            if wanted.only not in fault.name or (fault.name == "disk full" and not is_small):
                continue
            row, passed = run(service, fault)
            rows.append(row)
            failed += not passed
            print(row, "" if passed else "FAILED", flush=True)
    if wanted.write:
        write(rows)
    return failed


def write(rows: list[str]) -> None:
    """Write the rows into the table of the documentation page."""
    head = ["| fault | named after | gone after | what the status says |", "| --- | --- | --- | --- |"]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text("\n".join([before + BEGIN, *head, *rows, END]) + after)


if __name__ == "__main__":
    sys.exit(main())

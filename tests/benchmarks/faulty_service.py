"""Runs the whole service with real servers, and can break each of its parts."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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

QUOTA = 5000
"""The number of requests per hour that github.com allows for a token."""
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
"""Problems of sources that need a credential, which this service does not have."""


class Service:
    """A running service and its servers, with a method for each way to break one of them."""

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
        """Return the problems that `r8scan status` reports, without those in IGNORED."""
        real = time.time

        def shifted() -> float:
            return real() + self.clock_off

        # Open a new connection, as `r8scan status` does. While PostgreSQL is stopped, an old connection would wait
        # forever.
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

    def send_to_server(self, name: str, number: signal.Signals) -> None:
        """Send this signal to all processes of a server, such as "postgres" or "redis"."""
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # The process has just ended.
                if child.name().startswith(name):
                    child.send_signal(number)

    def start_elsewhere(self) -> None:
        """Start a scanning process that seems to run on another host, with a clock that is a day ahead."""
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
        """Register a new token in the vendor's token store, and push it to a new repository."""
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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a disk of 40 MB at the folder. Yield False if this user may not mount disks."""
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

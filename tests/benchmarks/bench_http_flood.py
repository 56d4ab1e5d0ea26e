"""Measures how fast `r8scan serve` answers signed alerts, and how much memory it uses, during six attacks at once.

The attackers keep connections open, send requests slowly, or send large bodies or wrong alerts.

Run: python -m tests.benchmarks.bench_http_flood [--minutes N]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import psutil

from scanner.child_processes import start_child
from scanner.records import schema
from scanner.records.database import Database
from tests.benchmarks.targets import Targets
from workers.sandbox import github_server
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.tokens import random_token
from workers.sandbox.world import until

ROUTE = "/github/secret-scanning"
MAX_P95_SECONDS = 1.0
MAX_MEMORY_MB = 200.0
MAX_GROWTH = 1.25
"""The limit for the mean memory in the last quarter of the run, divided by that in the second quarter."""
ALERTS_PER_SECOND = 2.0
LARGE_BYTES = 10 * 1024 * 1024
_HEAD = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\n"


@dataclass
class Run:
    """The results of the benchmark.

    Attributes:
        seconds: The response times of the alerts with status 200.
        failures: The number of other alerts, by the status or the error.
        memory: Measurements of the server's memory in MiB.
        attacks: The number of attacks by kind.
    """

    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    memory: list[float] = field(default_factory=list)
    attacks: Counter[str] = field(default_factory=Counter)

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.seconds, n=20)[-1] if len(self.seconds) > 1 else float("inf")

    @property
    def growth(self) -> float:
        quarter = len(self.memory) // 4
        if not quarter:
            return 1.0
        return statistics.mean(self.memory[-quarter:]) / statistics.mean(self.memory[quarter : 2 * quarter])


class Attack:
    """Six attackers. Each runs in its own thread until `stop` is set."""

    def __init__(self, port: int, signed: dict[str, str]) -> None:
        self._port = port
        self._signed = signed
        self.begun: Counter[str] = Counter()
        self.stop = threading.Event()
        ways = (self.silent, self.half_heads, self.slow_bodies, self.oversize, self.unsigned, self.forged)
        self._threads = [
            threading.Thread(target=self._again, args=(way, f"127.0.{number}.2"), daemon=True)
            for number, way in enumerate(ways)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(30)

    def silent(self, source: str) -> None:
        self._hold(source, b"", 200)

    def half_heads(self, source: str) -> None:
        self._hold(source, _HEAD.encode(), 200)

    def slow_bodies(self, source: str) -> None:
        self._hold(source, self._signed_head(1000) + b"[", 100)

    def oversize(self, source: str) -> None:
        with self._connected(source) as connection:
            connection.sendall(self._signed_head(LARGE_BYTES))
            for _ in range(LARGE_BYTES // 65536):
                connection.sendall(b" " * 65536)

    def unsigned(self, source: str) -> None:
        with self._connected(source) as connection:
            connection.sendall(f"{_HEAD}Content-Length: 2\r\n\r\n[]".encode())
            connection.recv(1000)
        time.sleep(0.002)

    def forged(self, source: str) -> None:
        with self._connected(source) as connection:
            connection.sendall(self._signed_head(1024) + b" " * 1024)
            connection.recv(1000)
        time.sleep(0.002)

    def _again(self, way: Callable[[str], None], source: str) -> None:
        while not self.stop.is_set():
            with suppress(OSError):
                way(source)
            self.begun[way.__name__] += 1

    def _hold(self, source: str, sent: bytes, connections: int) -> None:
        held = []
        with suppress(OSError):
            for _ in range(connections):
                held.append(self._connected(source))
                held[-1].sendall(sent)
        self.stop.wait(1)
        for connection in held:
            connection.close()

    def _connected(self, source: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=10, source_address=(source, 0))

    def _signed_head(self, length: int) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in self._signed.items())
        return f"{_HEAD}{lines}Content-Length: {length}\r\n\r\n".encode()


def _attack(port: int, signed: dict[str, str], pipe: Connection) -> None:
    """Attack until a message arrives through the pipe. Then send back the number of attacks by kind."""
    attack = Attack(port, signed)
    attack.start()
    pipe.recv()
    attack.join()
    pipe.send(attack.begun)


@contextmanager
def _attacked(port: int, signed: dict[str, str], run: Run) -> Iterator[None]:
    """Attack from another process during the `with` block. Then add the number of attacks to `run`."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    child = spawning.Process(target=_attack, args=(port, signed, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        yield
        ours.send("stop")
        run.attacks.update(ours.recv())
    finally:
        child.terminate()
        child.join()


def measure(minutes: float) -> Run:
    """Attack a server for `minutes` minutes, and send it signed alerts. Return the results."""
    folder = Path(tempfile.mkdtemp(prefix="r8scan-bench-"))
    run = Run()
    try:
        with github_server.running(folder / "github") as github, _server(folder, github) as (client, pid):
            _alert(client, github, Run())
            with _attacked(client.base_url.port or 0, github.signer.headers(b"[]"), run):
                ends_at = time.monotonic() + minutes * 60
                while time.monotonic() < ends_at:
                    _alert(client, github, run)
                    run.memory.append(psutil.Process(pid).memory_info().rss / 2**20)
                    time.sleep(1 / ALERTS_PER_SECOND)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return run


def _alert(client: httpx.Client, github: SandboxGitHub, run: Run) -> None:
    body = json.dumps([{"token": random_token(), "type": "t", "url": "", "source": "content"}]).encode()
    began = time.monotonic()
    try:
        # Use a new connection for each alert, as GitHub does.
        answer = client.post(ROUTE, content=body, headers={**github.signer.headers(body), "Connection": "close"})
    except httpx.TransportError as err:
        run.failures[type(err).__name__] += 1
        return
    if answer.status_code != 200:
        run.failures[str(answer.status_code)] += 1
        return
    run.seconds.append(time.monotonic() - began)


@contextmanager
def _server(folder: Path, github: SandboxGitHub) -> Iterator[tuple[httpx.Client, int]]:
    database = Database(f"sqlite:///{folder}/state/r8scan.db")
    schema.upgrade(database)
    database.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        "PATH": os.environ["PATH"],
        "R8SCAN_STATE_DIR": str(folder / "state"),
        "R8SCAN_GITHUB_API_URL": github.api_url,
        "R8SCAN_GITHUB_WEB_URL": github.url,
        "R8SCAN_LOG_LEVEL": "error",
    }
    child = start_child([sys.executable, "-m", "workers", "serve", "--port", str(port)], env=env)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)

    def is_up() -> bool:
        try:
            return client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(is_up, 60)
        yield client, child.pid
    finally:
        client.close()
        child.terminate()
        child.wait(60)


def judge(run: Run) -> int:
    """Print the results and compare them with the targets. Return 1 if a target was missed."""
    print(f"attacks begun: {', '.join(f'{count:,} {name}' for name, count in sorted(run.attacks.items()))}")
    print(f"signed alerts answered: {len(run.seconds):,}; not: {dict(run.failures)}")
    targets = Targets()
    targets.below("p95 of a signed alert", run.p95, MAX_P95_SECONDS, " s")
    targets.exactly("signed alerts not answered", sum(run.failures.values()), 0)
    targets.below("peak memory of the server", max(run.memory, default=0.0), MAX_MEMORY_MB, " MB")
    targets.below("memory at the end by memory early on", run.growth, MAX_GROWTH)
    return targets.status()


def main() -> int:
    """Attack for `--minutes` minutes. Return 1 if a target was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--quick", action="store_true", help="one minute")
    options = parser.parse_args()
    return judge(measure(1 if options.quick else options.minutes))


if __name__ == "__main__":
    sys.exit(main())

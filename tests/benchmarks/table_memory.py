"""Measures the memory and CPU time of all processes of the idle service, for `make memory-table`.

Memory is the proportional set size (PSS): memory that N processes share counts as 1/N in each.

Run: python -m tests.benchmarks.table_memory [--settle SECONDS] [--seconds SECONDS]
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import yaml
from sqlalchemy import select

from scanner.child_processes import start_child
from scanner.records.canary_models import Canary
from scanner.records.states import CanaryState
from tests.servers import postgresql_server, redis_server
from workers.sandbox import world
from workers.sandbox.world import World, until

MAX_RUN_MB, MAX_COMPOSE_MB, MAX_RUN_CPU = 350.0, 600.0, 0.02
COMPOSE = Path(__file__).parent.parent.parent / "docker-compose.yml"
NOT_STARTED = ("postgres", "redis", "migrate")
"""Services of the compose file that `compose_services` leaves out, because they do not run r8scan all the time."""
CANARY_SECONDS = 120.0
POLL_SECONDS = 60
"""The interval that GitHub asks for between two polls of its public events."""


@dataclass(frozen=True, slots=True)
class Use:
    """The memory and the CPU time of a deployment's processes.

    Attributes:
        megabytes: The memory of each process, by the name of the process.
        cores: The average CPU use of each process, by its name. 1 is one whole core.
    """

    megabytes: dict[str, float]
    cores: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.megabytes.values())

    def lines(self) -> Iterator[str]:
        for name in sorted(self.megabytes, key=lambda one: -self.megabytes[one]):
            yield f"  {name:28} {self.megabytes[name]:7.1f} MB   {100 * self.cores.get(name, 0.0):5.2f} % of a core"
        yield f"  {'all':28} {self.total:7.1f} MB   {100 * sum(self.cores.values()):5.2f} % of a core"


def measured(parents: dict[str, int], seconds: float) -> Use:
    """Measure these processes and all their descendants.

    Args:
        parents: Process ids by the name of the service.
        seconds: The length of the measurement of CPU time.
    """
    before, began = _processor_seconds(parents), time.monotonic()
    time.sleep(seconds)
    after, passed = _processor_seconds(parents), time.monotonic() - began
    cores = {name: max(after[name] - before[name], 0.0) / passed for name in after}
    megabytes: defaultdict[str, float] = defaultdict(float)
    for name, process in _processes(parents):
        megabytes[name] += _pss(process) / 1e6
    return Use(dict(megabytes), cores)


def _processes(parents: dict[str, int]) -> Iterator[tuple[str, psutil.Process]]:
    for service, pid in parents.items():
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                yield _name(service, process), process


def _name(service: str, process: psutil.Process) -> str:
    """Return the name of the process in the table: the service's name, and sometimes the process's role."""
    line = " ".join(process.cmdline())
    if "fork_server" in line:
        return f"{service}: readers"
    # Celery writes the worker's name into the title of its process.
    role = re.search(r"celeryd: ([\w-]+)@|\[celery (beat)\]", line)
    if role:
        return f"{service}: {role[1] or role[2]}"
    return f"{service}: redis" if service != "redis" and "redis-server" in line else service


def _processor_seconds(parents: dict[str, int]) -> defaultdict[str, float]:
    spent: defaultdict[str, float] = defaultdict(float)
    for name, process in _processes(parents):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent[name] += times.user + times.system
    return spent


def _pss(process: psutil.Process) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def run_alone(folder: Path, settle: float, seconds: float, **settings: str) -> Use:
    """Measure the memory and CPU time of `r8scan run` with SQLite and two processes that scan.

    Args:
        settle: The seconds to wait after the first planted token was found.
        seconds: The length of the measurement.
    """
    with world.running(folder, **settings) as surroundings, surroundings.service("--processes", "2") as child:
        surroundings.github.poll_interval = POLL_SECONDS
        _await_first_canary(surroundings)
        time.sleep(settle)
        return measured({"run": child.pid}, seconds)


def compose_set(folder: Path, settle: float, seconds: float) -> Use:
    """Run the commands of docker-compose.yml without containers, and measure their memory and CPU time.

    Args:
        settle: The seconds to wait after the first planted token was found.
        seconds: The length of the measurement.
    """
    with postgresql_server() as postgresql, redis_server() as socket, ExitStack() as stack:
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute("CREATE DATABASE compose")
        settings = {
            "database_url": postgresql.replace("/postgres?", "/compose?"),
            "redis_url": f"redis+socket://{socket}",
        }
        surroundings = stack.enter_context(world.running(folder, log_format="json", **settings))
        surroundings.github.poll_interval = POLL_SECONDS
        own = psutil.Process()
        servers = {
            name: child.pid
            for child in own.children()
            for name in ("postgres", "redis")
            if name in Path(child.exe()).name
        }
        parents = {**servers, **_started(surroundings, stack)}
        _await_first_canary(surroundings)
        time.sleep(settle)
        return measured(parents, seconds)


def _started(surroundings: World, stack: ExitStack) -> dict[str, int]:
    """Start the services of the compose file that run r8scan. Return their process ids by service name."""
    pids = {}
    for name, service in compose_services().items():
        log = stack.enter_context((surroundings.folder / f"{name}.log").open("ab"))
        environment = surroundings.environment(R8SCAN_ALIVE_FILE=str(surroundings.folder / f"alive-{name}"))
        child = start_child(command_of(service), env=environment, own_group=True, stdout=log, stderr=log)
        stack.callback(_end, child)
        pids[name] = child.pid
    return pids


def compose_services() -> dict[str, dict[str, Any]]:
    """Return the compose file's permanent services that run r8scan, by name."""
    services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return {
        name: service
        for name, service in services.items()
        if name not in NOT_STARTED and "profiles" not in service and service.get("image") == "r8scan:local"
    }


def command_of(service: dict[str, Any]) -> list[str]:
    """Return the command line of a compose service, with any free port instead of 8080."""
    words: list[str] = service["command"]
    return [sys.executable, "-m", "workers", *("0" if word == "8080" else word for word in words)]


def _end(child: Any) -> None:
    child.terminate()
    with contextlib.suppress(Exception):
        child.wait(30)
    child.kill()
    child.wait()


def _await_first_canary(surroundings: World) -> None:
    if surroundings.settings.get("R8SCAN_CANARIES") == "false":
        return
    until(lambda: _is_ended(surroundings), CANARY_SECONDS, 0.5)


def _is_ended(surroundings: World) -> bool:
    with surroundings.database.read() as session:
        return CanaryState.ENDED in session.execute(select(Canary.state)).scalars().all()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="r8memory-") as name:
        yield Path(name) / "w"


def main() -> int:
    """Measure both deployments and print the results. Return the number of exceeded limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("run", "compose"), help="measure one of the deployments")
    parser.add_argument("--settle", type=float, default=30.0, help="seconds to wait after the first canary")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds for which the processor time is measured")
    options = parser.parse_args()
    failed = 0
    if options.only != "compose":
        with _folder() as folder:
            use = run_alone(folder, options.settle, options.seconds)
        print("r8scan run", *use.lines(), sep="\n", flush=True)
        failed += use.total > MAX_RUN_MB
        failed += sum(use.cores.values()) > MAX_RUN_CPU
    if options.only != "run":
        with _folder() as folder:
            use = compose_set(folder, options.settle, options.seconds)
        print("the services of docker-compose.yml", *use.lines(), sep="\n", flush=True)
        failed += use.total > MAX_COMPOSE_MB
    return failed


if __name__ == "__main__":
    sys.exit(main())

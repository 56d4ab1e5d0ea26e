"""Breaks one part of a running service after another, and measures how soon `r8scan status` reports it.

Run it with `make fault-table`. `--only TEXT` selects faults by name, and `--write` writes the table into the
documentation.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.faulty_service import COMMANDS, Service, running
from workers.health.problems import Problem

LIMIT_SECONDS = 60.0
GIVE_UP_SECONDS = 150.0
QUIET_SECONDS = 60.0
PAGE = Path(__file__).parent.parent.parent / "docs" / "operations.md"
BEGIN, END = "<!-- fault table: make fault-table -->", "<!-- end of the fault table -->"


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break the service, and to repair it.

    `says` is a regular expression for the output of `r8scan status` while the service is broken.
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
        Fault(
            "Redis stopped (SIGSTOP)",
            r"^redis_away.*does not answer",
            lambda service: service.send_to_server("redis", signal.SIGSTOP),
            lambda service: service.send_to_server("redis", signal.SIGCONT),
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
            lambda service: service.send_to_server("postgres", signal.SIGSTOP),
            lambda service: service.send_to_server("postgres", signal.SIGCONT),
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
    """Return a fault that sends a signal to the process with this role."""

    def end(service: Service) -> None:
        service.start(role) if number == signal.SIGKILL else service.send(signal.SIGCONT, role)

    return Fault(f"{role} {name}", rf"^process_silent:{role} ", lambda service: service.send(number, role), end)


def shown(one: Problem) -> str:
    """Return a problem as one line of text."""
    return f"{one.key} {one.sentence}"


def seconds_until(ready: Callable[[], bool]) -> float | None:
    """Wait until `ready` returns True. Return the seconds waited, or None after GIVE_UP_SECONDS."""
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > GIVE_UP_SECONDS:
            return None
        time.sleep(0.5)
    return time.monotonic() - began


def run(service: Service, fault: Fault) -> tuple[str, bool]:
    """Break and repair the service. Return a row of the table, and whether `r8scan status` was right."""
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


def main() -> int:
    """Try all faults. Return the number of times that `r8scan status` was wrong."""
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
    """Write the rows into the table of faults in docs/operations.md."""
    head = ["| fault | named after | gone after | what the status says |", "| --- | --- | --- | --- |"]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text("\n".join([before + BEGIN, *head, *rows, END]) + after)


if __name__ == "__main__":
    sys.exit(main())

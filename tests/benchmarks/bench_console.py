"""The time that the server needs for each page of the console, with 1,000,000 incidents.

Run: python -m tests.benchmarks.bench_console [--quick] [--incidents N] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.orm import configure_mappers
from starlette.requests import Request
from starlette.responses import Response

from scanner.records.database import Database
from scanner.records.schema import upgrade
from scanner.records.states import Role
from scanner.settings import load_settings
from tests.benchmarks.targets import Targets
from tests.servers import postgresql_server
from workers import memory
from workers.context import Context
from workers.web.bodies import BodyBudget
from workers.web.console import rendering
from workers.web.console.pages import audit, decisions, incident, incidents, jobs, mails, now, sources, tokens
from workers.web.console.serving import Console, View
from workers.web.console.sessions import Person

INCIDENTS, QUICK_INCIDENTS = 1_000_000, 50_000
PLACES_EACH = 5
ROUNDS, QUICK_ROUNDS = 30, 10
P95_MILLISECONDS = 100.0

FILL = Path(__file__).with_name("console_rows.sql")


def main() -> int:
    """Fill the database, time each page and compare the times with the targets. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fifty thousand incidents")
    parser.add_argument("--incidents", type=int)
    parser.add_argument("--keep", type=Path, help="data folder of PostgreSQL to fill once and measure many times")
    parser.add_argument("--rounds", type=int, help="how many times to measure each page")
    parser.add_argument("--running", help="URL of a filled PostgreSQL that runs already")
    parser.add_argument("--only", default="", help="measure the pages whose name contains this")
    given = parser.parse_args()
    number = given.incidents or (QUICK_INCIDENTS if given.quick else INCIDENTS)
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    targets = Targets()
    server = nullcontext(given.running) if given.running else postgresql_server(given.keep)
    with server as url, tempfile.TemporaryDirectory(prefix="r8bench-") as folder:
        database = Database(url)
        upgrade(database)
        if not is_filled(database):
            fill(database, number)
        settings = load_settings(
            read_dotenv=False, state_dir=Path(folder), database_url=SecretStr(url), sources=("public_events",)
        )
        context = Context(settings)
        context.__dict__["database"] = database
        measure(context, rounds, targets, given.only)
        context.close()
    return targets.status()


def is_filled(database: Database) -> bool:
    """Return whether an earlier run has filled the database completely."""
    with database.engine.connect() as connection:
        return connection.execute(text("SELECT EXISTS (SELECT FROM scan_jobs)")).scalar_one() is True


def fill(database: Database, number: int) -> None:
    """Fill the database with `number` incidents and their related rows."""
    started = time.monotonic()
    lines = (line for line in FILL.read_text(encoding="utf-8").splitlines() if not line.startswith("--"))
    for statement in "\n".join(lines).split(";\n"):
        if not statement.strip():
            continue
        with database.engine.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            values = {"incidents": number, "places": PLACES_EACH}
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), used)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))
    print(f"  {number:,} incidents were written in {time.monotonic() - started:.0f} s", flush=True)


def measure(context: Context, rounds: int, targets: Targets, only: str) -> None:
    """Request each page whose name contains `only`, and time each of the `rounds` requests."""
    console = Console(context, BodyBudget())
    # Prepare the process as `r8scan serve` does before it answers the first request.
    configure_mappers()
    rendering.prepare()
    memory.freeze_started_objects()
    for name, load in (
        ("overview, once in 3 s", console.overview.refresh),
        ("decisions, once in 3 s", console.waiting.refresh),
        ("figures, once in 60 s", console.figures.refresh),
    ):
        took = []
        for _ in range(3):
            started = time.perf_counter()
            load()
            took.append(1000 * (time.perf_counter() - started))
        print(f"  {name}: {min(took):.0f} ms", flush=True)
    for name, function, path, query in pages():
        if only not in name:
            continue
        took = [_milliseconds(console, function, path, query) for _ in range(rounds)]
        p95 = statistics.quantiles(took, n=20)[-1]
        targets.below(f"{name}, p95", p95, P95_MILLISECONDS, " ms")


def _milliseconds(console: Console, function: Callable[[View], Response], path: dict[str, str], query: str) -> float:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/console/",
        "headers": [],
        "query_string": query.encode(),
        "path_params": path,
    }
    console.overview.get(), console.waiting.get(), console.figures.get()
    person = Person("bench", Role.OPERATOR, "", console.now())
    started = time.perf_counter()
    response = function(View(console, Request(scope), person))
    assert response.status_code == 200
    return 1000 * (time.perf_counter() - started)


def pages() -> list[tuple[str, Callable[[View], Response], dict[str, str], str]]:
    """Return four values for each page: its name, its function, its path parameters and its query string."""
    lists = (
        *("", "state=open", "action=disabled", "action=protected", "action=observed", "cause=compromise_signs"),
        *("account=account-77", "repository=acme/popular", "repository=owner-4711/app", "repository=no/such"),
        *("source=public_events", "source=code_search", "source=rescan", "source=nothing", "mail=sent", "mail=failed"),
        *("mail=waiting", "mail=none", "q=account-99", "q=r8_abc", "q=r8_a", "q=3f2a", "q=token-12", "q=no-such-thing"),
        *(
            "q=a",
            "q=token",
            "q=account",
            "assignee=ana",
            f"q={_digest('a', 50)}{_digest('b', 50)}",
            "q=flood/app",
            "repository=flood/app",
        ),
        *("q=owner-5@example.com", "q=acme/popular", "since=2025-06-01&until=2025-06-30&state=closed"),
        *("state=open&source=code_search&mail=failed", "action=protected&source=rescan", "until=2025-03-01"),
        # Each of these query strings has two conditions. Each condition alone matches many incidents, but few or no
        # incidents match both.
        *("state=open&source=rescan", "state=closed&mail=waiting", "cause=compromise_signs&repository=acme/popular"),
        *(
            "action=disabled&repository=owner-4711/app",
            "account=account-77&source=code_search",
            "mail=none&source=rescan",
        ),
        *("source=code_search&mail=failed", "source=rescan&repository=acme/popular", "q=account&mail=failed"),
        *("q=token&source=rescan&state=closed", "repository=acme/popular&since=2025-06-01&until=2025-06-30"),
        *("mail=sent&until=2025-03-01", "source=public_events&until=2025-03-01", "q=account-99&until=2025-03-01"),
        # The `retired` accounts have only old incidents. A search that begins with the newest incident finds them last.
        *("q=retired", "q=retired&source=code_search", "account=retired", "account=retired&state=open&mail=failed"),
        *("action=flagged&mail=sent", "state=closed&action=flagged", "cause=compromise_signs&mail=failed&state=open"),
    )
    rows = ("who=console:ana", "people=1", "what=note", "who=console:nobody", "who=r8scan&what=note", "before=100000")
    works = ("state=failed", "state=partial", "source=rescan", "kind=repository", "kind=gist", "parent=1")
    mixed = ("state=failed&kind=repository", "source=rescan&state=partial", "source=none", "before=1000")
    mails_by = ("state=failed", "state=pending", "channel=operator", "recipient=owner-5@example.com", "recipient=none")
    owned = (
        "account=account-77",
        "state=protected",
        "state=live",
        "q=robot-77",
        "q=r8_abc",
        "q=no-such",
        "account=none",
    )
    return [
        ("now", now.show, {}, ""),
        *((f"incidents?{query}", incidents.show, {}, query) for query in lists),
        ("decisions", decisions.show, {}, ""),
        *((f"tokens?{query}", tokens.show, {}, query) for query in ("", *owned, "state=live&account=account-77")),
        *((f"accounts?{query}", tokens.show, {}, f"show=accounts&{query}") for query in ("", "q=account-99", "q=none")),
        *((f"jobs?{query}", jobs.show, {}, query) for query in ("", *works, *mixed)),
        ("a job", jobs.show_one, {"id": "1"}, ""),
        *((f"outbox?{query}", mails.show, {}, query) for query in ("", *mails_by, "state=failed&channel=webhook")),
        ("sources", sources.show, {}, ""),
        *((f"audit?{query}", audit.show, {}, query) for query in ("", *rows, f"incident={_id(50)}")),
        ("an incident", incident.show, {"id": _id(50)}, ""),
        ("an incident with 100,000 places", incident.show, {"id": _id(60)}, ""),
    ]


def _digest(prefix: str, number: int) -> str:
    return hashlib.md5(f"{prefix}{number}".encode(), usedforsecurity=False).hexdigest()


def _id(number: int) -> str:
    return str(uuid.UUID(_digest("i", number)))


if __name__ == "__main__":
    sys.exit(main())

"""Every page and list of the console over 1,000,000 incidents and 5,000,000 places on PostgreSQL, server-side.

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
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response

from scanner.records.database import Database
from scanner.records.schema import upgrade
from scanner.records.states import Role
from scanner.settings import load_settings
from tests.benchmarks.targets import Targets
from tests.servers import postgresql_server
from workers.context import Context
from workers.web.bodies import BodyBudget
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
    parser.add_argument("--only", default="", help="measure the pages whose name contains this")
    given = parser.parse_args()
    number = given.incidents or (QUICK_INCIDENTS if given.quick else INCIDENTS)
    rounds = QUICK_ROUNDS if given.quick else ROUNDS
    targets = Targets()
    with postgresql_server(given.keep) as url, tempfile.TemporaryDirectory(prefix="r8bench-") as folder:
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
    """Return whether an earlier run filled the tables. The jobs are written last."""
    with database.engine.connect() as connection:
        return connection.execute(text("SELECT EXISTS (SELECT FROM scan_jobs)")).scalar_one() is True


def fill(database: Database, number: int) -> None:
    """Fill the tables by statements that generate the rows in the database."""
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
    """Time each page whose name contains `only` many times.

    Read cached values again each time, and measure them separately.
    """
    console = Console(context, BodyBudget())
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
    """Return the name, the function, the path values and the query of each page."""
    lists = (
        *("", "state=open", "action=disabled", "action=protected", "action=observed", "cause=compromise_signs"),
        *("account=account-77", "repository=acme/popular", "repository=owner-4711/app", "repository=no/such"),
        *("source=public_events", "source=code_search", "source=rescan", "source=nothing", "mail=sent", "mail=failed"),
        *("mail=waiting", "mail=none", "q=account-99", "q=r8_abc", "q=3f2a", "q=token-12", "q=no-such-thing"),
        *("q=owner-5@example.com", "q=acme/popular", "since=2025-06-01&until=2025-06-30&state=closed"),
        *("state=open&source=code_search&mail=failed", "action=protected&source=rescan"),
    )
    one = {"id": str(uuid.UUID(hashlib.md5(b"i50", usedforsecurity=False).hexdigest()))}
    return [
        ("now", now.show, {}, ""),
        *((f"incidents?{query}", incidents.show, {}, query) for query in lists),
        ("decisions", decisions.show, {}, ""),
        ("tokens", tokens.show, {}, ""),
        ("tokens?account", tokens.show, {}, "account=account-77"),
        ("accounts", tokens.show, {}, "show=accounts"),
        ("jobs", jobs.show, {}, ""),
        ("jobs?state=failed", jobs.show, {}, "state=failed"),
        ("outbox", mails.show, {}, ""),
        ("outbox?state=failed", mails.show, {}, "state=failed"),
        ("sources", sources.show, {}, ""),
        ("audit", audit.show, {}, ""),
        ("an incident", incident.show, one, ""),
    ]


if __name__ == "__main__":
    sys.exit(main())

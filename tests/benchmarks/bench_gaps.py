"""Runs the service in three bad situations and checks that no push is missed without being counted.

* `downtime`: The service was stopped for a day.
* `index`: The search index loses half of its entries.
* `two`: A second installation uses the same credential.

Exit status 1: a target was missed.

Run: python -m tests.benchmarks.bench_gaps [--only downtime|index|two]
"""

from __future__ import annotations

import argparse
import math
import secrets
import string
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from scanner.records import schema
from scanner.records.database import Database
from scanner.records.discovery_models import SearchWindow
from scanner.records.models import ScanJob, db_now
from scanner.records.source_models import Gap, SourceState
from scanner.records.states import JobKind
from tests.benchmarks.attention_service import status
from tests.benchmarks.targets import Targets
from tests.scanner.sources.knowing import is_disabled
from workers.sandbox import world
from workers.sandbox.github_discovery import push_now
from workers.sandbox.world import World, until

DAY = 86_400
SOURCES = ("public_events", "repository_search", "new_repositories")
SEARCH = "repository_search"
TIMELINE_PAGE = 100
RATE = 20
POINTS = 30
"""The quota of GraphQL points that the two installations share. Each needs about 70 points for two hours of pushes."""
LOST_ENTRIES = math.sqrt(0.5)
"""The probability that the index loses an entry. Half of the new repositories lose both of their entries."""


@dataclass
class Pushes:
    """Pushes that GitHub's lists and searches show, but its event timeline does not.

    `at` has the Unix time of the push, by the repository's name.
    """

    world: World
    at: dict[str, float] = field(default_factory=dict)

    def push(self, at: float) -> None:
        name = f"ben/app{len(self.at)}"
        self.at[name] = at
        push_now(self.world.github, name, "1" * 40, at=at)

    def push_for(self, seconds: float) -> None:
        """Make RATE pushes per second during `seconds` seconds."""
        end = time.time() + seconds
        while time.time() < end:
            for _ in range(RATE):
                self.push(time.time())
            time.sleep(1)

    def accounted_for(self, database: Database) -> Counter[str]:
        """Count the pushes by what r8scan did with them.

        The keys are `queued` (queued or read), `behind` (to be searched later), `gap` (missed and recorded) and
        `silent` (none of these).
        """
        with database.read() as session:
            targets = session.execute(select(ScanJob.target).where(ScanJob.kind == JobKind.PUSHES)).scalars()
            known = {push["repository"] for target in targets for push in target["pushes"]}
            gaps = [(gap.from_at.timestamp(), gap.until_at.timestamp()) for gap in session.execute(_gaps()).scalars()]
        cursor = _cursor(database)
        spans = [*cursor["behind"], (cursor["until"], time.time())]
        found: Counter[str] = Counter()
        for name, at in self.at.items():
            if name in known:
                found["queued"] += 1
            elif any(start <= int(at) <= end for start, end in spans):
                found["behind"] += 1
            else:
                found["gap" if any(start <= at <= end + 1 for start, end in gaps) else "silent"] += 1
        return found


def _gaps() -> Any:
    return select(Gap).where(Gap.source == SEARCH)


def _cursor(database: Database) -> dict[str, Any]:
    with database.read() as session:
        statement = select(SourceState.cursor).where(SourceState.source == SEARCH)
        return dict(session.execute(statement).scalar_one())


def _change_cursor(database: Database, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    with database.write() as session:
        state = session.execute(select(SourceState).where(SourceState.source == SEARCH)).scalar_one()
        state.cursor = {**state.cursor, **change(dict(state.cursor))}


def _have_polled(database: Database) -> bool:
    with database.read() as session:
        polled = select(SourceState.source).where(SourceState.last_success_at.is_not(None))
        return set(session.execute(polled).scalars()) >= set(SOURCES)


def _prime(own: World) -> None:
    """Run the service until it has polled each of GitHub's lists once."""
    with own.service():
        until(lambda: _have_polled(own.database), 120)
    now = time.time()
    _change_cursor(own.database, lambda _: {"until": int(now), "settle": 5.0, "learned": 5.0, "rate": float(RATE)})


def _is_sound(own: World, name: str, targets: Targets) -> None:
    log = (own.folder / "service.log").read_text()
    targets.exactly(f"{name}: tracebacks in the log", log.count("Traceback"), 0)


def _sentences(own: World) -> list[str]:
    return [f"{one['kind']}: {one['sentence']}" for one in status(own.environment())["problems"]]


def _missed(own: World) -> dict[str, dict[str, int]]:
    """Return the numbers of missed events in `r8scan status --json`, by source and reason."""
    return {one["source"]: one["missed_reasons_24h"] for one in status(own.environment())["sources"]}


def _emit_pushes(own: World) -> None:
    """Add three times as many pushes as the timeline can show."""
    push_now(own.github, "ana/busy", "1" * 40)
    for _ in range(3 * TIMELINE_PAGE):
        ends = {"head": secrets.token_hex(20), "before": secrets.token_hex(20)}
        own.github.emit("PushEvent", "ana/busy", {"ref": "refs/heads/main", **ends})


def downtime(own: World, targets: Targets) -> None:
    """Stop the service for a day in which pushes and a leak happen. Then start the service again."""
    _emit_pushes(own)
    _prime(own)
    now = time.time()
    with own.database.write() as session:
        for state in session.execute(select(SourceState)).scalars():
            for column in ("last_success_at", "newest_seen_at", "next_poll_at"):
                value = getattr(state, column)
                setattr(state, column, value and value - timedelta(seconds=DAY))
    _change_cursor(own.database, lambda _: {"until": int(now) - DAY + 600, "rate": 0.01})
    pushes = Pushes(own)
    for number in range(200):
        pushes.push(now - DAY + 900 + number * (DAY - 1000) / 200)
    token = "r8_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(37))
    digest = own.register(token)
    own.github.create_repository("ana/app")
    work = own.workplace("ana/app")
    work.write("app.py", f'client = Client(api_token="{token}")\n')
    work.commit("first")
    work.push()
    _emit_pushes(own)  # the leak is then no longer on page 1 of the timeline
    began = time.time()
    with own.service() as child:
        until(lambda: is_disabled(own.database, digest), 180)
        print(f"  the leak of the downtime was disabled {time.time() - began:.0f} s after the restart")
        until(lambda: not _cursor(own.database)["behind"], 180)
        targets.exactly("downtime: the service runs", float(child.poll() is None), 1)
        found, missed = pushes.accounted_for(own.database), _missed(own)
        print(f"  pushes of the day: {dict(found)}; status names as missed: {missed}")
    targets.exactly("downtime: pushes missed silently", found["silent"], 0)
    targets.exactly("downtime: pushes that search still shows and that were not queued", 200 - found["queued"], 0)
    targets.at_least("downtime: events that status names as missed", sum(missed["public_events"].values()), 1)
    _is_sound(own, "downtime", targets)


def index(own: World, targets: Targets) -> None:
    """Remove half of the new repositories from the search index while pushes continue."""
    _prime(own)
    pushes = Pushes(own)
    own.github.index.lost = LOST_ENTRIES
    with own.service() as child:
        pushes.push_for(60)
        until(lambda: _cursor(own.database)["until"] > max(pushes.at.values()), 120)
        # Repeat the planned searches three times, because only the last one decides which pushes count as missed.
        for _ in range(3):
            with own.database.write() as session:
                before = session.execute(select(SearchWindow.start, SearchWindow.looks)).all()
                session.execute(update(SearchWindow).values(next_look_at=db_now(-1)))
            until(partial(_are_looked_at, own.database, before), 120)
        targets.exactly("index: the service runs", float(child.poll() is None), 1)
        found, missed = pushes.accounted_for(own.database), _missed(own)[SEARCH]
    lost = len(pushes.at) - found["queued"]
    print(f"  {len(pushes.at)} pushes: {dict(found)}; status names as missed: {missed}")
    targets.exactly("index: pushes missed silently", found["silent"], 0)
    targets.at_least(
        "index: missed by the status's estimate, of those lost", missed.get("index_incomplete", 0) / lost, 0.6
    )
    _is_sound(own, "index", targets)


def _are_looked_at(database: Database, before: Any) -> bool:
    with database.read() as session:
        now = dict(iter(session.execute(select(SearchWindow.start, SearchWindow.looks))))
    return all(start not in now or now[start] > looks for start, looks in before)


def two(own: World, targets: Targets) -> None:
    """Run two installations that use the same credential, after both missed two hours of pushes."""
    with tempfile.TemporaryDirectory() as name:
        second = _second(own, Path(name))
        own.github.points_limit, own.github.repository_search_limit = POINTS, 2
        pushes = Pushes(own)
        for one in (own, second):
            _prime(one)
            _change_cursor(one.database, lambda cursor: {"until": cursor["until"] - 2 * 3600})
        began = time.time()
        for number in range(1200):
            pushes.push(began - 2 * 3600 + number * 6)
        with own.service() as first, second.service() as other:
            pushes.push_for(30)
            for one in (own, second):
                told = until(partial(_quota_is_named, one), 180)
                print(f"  {told}")
            targets.exactly("two: both services run", float(first.poll() is None and other.poll() is None), 1)
            silent = sum(pushes.accounted_for(one.database)["silent"] for one in (own, second))
            print(f"  {[dict(pushes.accounted_for(one.database)) for one in (own, second)]}")
        targets.exactly("two: pushes missed silently", silent, 0)
        targets.below("two: GraphQL requests beyond the quota", own.github.requests["graphql"] - POINTS, 20)
        for one in (own, second):
            _is_sound(one, "two", targets)
        second.database.close()


def _second(own: World, folder: Path) -> World:
    url = f"sqlite:///{folder}/state/r8scan.db"
    database = Database(url)
    schema.upgrade(database)
    settings = {**own.settings, "R8SCAN_STATE_DIR": str(folder / "state"), "R8SCAN_DATABASE_URL": url}
    return replace(own, folder=folder, database=database, settings=settings)


def _quota_is_named(own: World) -> str:
    return next((one for one in _sentences(own) if one.startswith("source_behind") and "quota" in one), "")


SCENARIOS = {"downtime": downtime, "index": index, "two": two}


def main() -> int:
    """Run the scenarios one after the other. Return 1 if a target was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="no difference: it is brief")
    parser.add_argument("--only", choices=SCENARIOS)
    options = parser.parse_args()
    targets = Targets()
    for name, scenario in SCENARIOS.items():
        if options.only not in (None, name):
            continue
        print(f"{name}: {(scenario.__doc__ or '').strip()}", flush=True)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            own = stack.enter_context(
                world.running(Path(folder) / "world", sources=",".join(SOURCES), github_token="a-credential")
            )
            scenario(own, targets)
    return targets.status()


if __name__ == "__main__":
    sys.exit(main())

"""A helper for tests of repository search, with a simulated clock."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import select, update

from scanner.detection import Detector
from scanner.github.client import GitHub
from scanner.records.database import Database
from scanner.records.discovery_models import SearchWindow
from scanner.records.models import db_now
from scanner.records.source_models import Gap, SourceState
from scanner.sources.polling.report import PollReport
from scanner.sources.pushes.push import Push
from scanner.sources.repository_search import poll as repository_search
from scanner.sources.repository_search.windows import Plan
from tests.scanner.sources.knowing import jobs_of, make_due, state_of
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.github_discovery import push_now

SOURCE = repository_search.SOURCE


class Searching:
    """Finds pushes by repository search on a simulated GitHub, with a simulated clock."""

    def __init__(self, database: Database, sandbox: SandboxGitHub, client: GitHub) -> None:
        self.database, self.sandbox, self.client = database, sandbox, client
        self.now = float(int(time.time()))
        sandbox.graphql.clock = lambda: self.now

    def poll(self, seconds: float = 0) -> PollReport:
        """Advance the clock by `seconds`, and do the searches that are due."""
        self.now += seconds
        make_due(self.database)
        return repository_search.poll(
            *(self.database, self.client, Detector()), vendor="Replicate", wait=lambda _: None, clock=lambda: self.now
        )

    def poll_for(self, seconds: int, every: int = 15) -> None:
        for _ in range(0, seconds, every):
            self.poll(every)

    def push(self, name: str, ago: float = 0.0, **fields: Any) -> None:
        repository = push_now(self.sandbox, name, "1" * 40, at=self.now - ago)
        for field, value in fields.items():
            setattr(repository, field, value)

    def look_again(self) -> None:
        """Let the next poll repeat all earlier searches."""
        with self.database.write() as session:
            session.execute(update(SearchWindow).values(next_look_at=db_now(-1)))

    def queued(self) -> list[Push]:
        return [Push.from_json(one) for job in jobs_of(self.database, "pushes") for one in job.target["pushes"]]

    @property
    def names(self) -> list[str]:
        return sorted(push.repository for push in self.queued())

    @property
    def state(self) -> SourceState:
        return state_of(self.database, SOURCE)

    @property
    def plan(self) -> Plan:
        return Plan.from_json(self.state.cursor, self.now)

    @property
    def gaps(self) -> list[Gap]:
        with self.database.read() as session:
            return list(session.execute(select(Gap).order_by(Gap.id)).scalars())


only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

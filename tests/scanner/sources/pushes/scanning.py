"""Helpers for tests that queue and run jobs for reading pushes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from scanner.detection import Detector, sha256_digest
from scanner.detection.git.packs import PackLimits
from scanner.detection.patterns.token_formats import hint_of
from scanner.github.client import GitHub
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.models import ApiToken, ScanJob, db_now
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.response.respond import Response as Responded
from scanner.sources.pushes.priorities import EARLIER_PRIORITY
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.scan import scan_next
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from workers.sandbox.workplace import Workplace

Make = Callable[..., Workplace]
Token = Callable[[], str]


class Bench:
    """Queues and runs jobs for reading pushes."""

    def __init__(self, database: Database, client: GitHub, state_dir: Path) -> None:
        self.database, self.client, self.state_dir = database, client, state_dir

    def know(self, token: str) -> str:
        digest = sha256_digest(token.encode())
        with self.database.write() as session:
            row = ImportedToken(digest, hint_of(token.encode()), "ci", "ana", ("ana@example.com",))
            ImportRun.begin().write(session, [row])
        return digest

    def queue(self, *pushes: Push) -> int:
        with self.database.write() as session:
            target = {"pushes": [push.to_json() for push in pushes]}
            job_id = jobs.enqueue(session, JobKind.PUSHES, target, source="public_events")
        assert job_id is not None
        return job_id

    def scan(self, threads: int = 4) -> Responded | None:
        return scan_next(
            self.database,
            self.client,
            Detector(),
            Policy(),
            limits=PackLimits(),
            threads=threads,
            state_dir=self.state_dir,
        )

    def jobs(self) -> list[ScanJob]:
        """Return all jobs except those that read the commits before a push."""
        with self.database.read() as session:
            wanted = select(ScanJob).where(ScanJob.priority != EARLIER_PRIORITY).order_by(ScanJob.id)
            return list(session.execute(wanted).scalars())

    def is_disabled(self, digest: str) -> bool:
        with self.database.read() as session:
            at = session.execute(select(ApiToken.disabled_at).where(ApiToken.digest == digest)).scalar_one()
        return at is not None

    def make_due(self) -> None:
        with self.database.write() as session:
            session.execute(update(ScanJob).values(next_attempt_at=db_now(), leased_until=None))

    def has_more(self) -> bool:
        """Claim the next job. Return False if there is none, or if it reads the commits before a push."""
        job = jobs.claim_next(self.database, JobKind.PUSHES)
        return job is not None and job.priority != EARLIER_PRIORITY


def push(before: str, head: str, repository: str = "ana/app", **changes: Any) -> Push:
    values: dict[str, Any] = {
        "repository": repository,
        "repository_id": 1001,
        "before": before,
        "head": head,
        "ref": "refs/heads/main",
        "ref_type": "",
        "published_at": None,
        "kind": "push",
    }
    return Push(**(values | changes))


def leaked(workplace: Make, token: str, repository: str = "ana/app") -> Push:
    work = workplace(repository)
    before = work.commit("first")
    work.write("a.py", f"x = '{token}'\n")
    head = work.commit("oops")
    work.push()
    return push(before, head, repository)

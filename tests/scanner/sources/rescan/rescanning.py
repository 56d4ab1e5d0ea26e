"""Helpers for tests of rescans."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select

from scanner.detection import sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.github.addresses import Target
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.records.states import JobKind
from scanner.response.respond import Response as Responded
from scanner.sources.rescan import manual
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from workers.sandbox.workplace import Workplace

Make = Callable[..., Workplace]
Token = Callable[[], str]


def queue(database: Database, name: str = "ana/app", repository_id: int | None = None) -> int:
    target = {"repository": name, "repository_id": repository_id, "published_at": None}
    with database.write() as session:
        job_id = jobs.enqueue(session, JobKind.REPOSITORY, target, source="rescan")
    assert job_id is not None
    return job_id


def job(database: Database, job_id: int) -> ScanJob:
    with database.read() as session:
        return session.execute(select(ScanJob).where(ScanJob.id == job_id)).scalar_one()


def known(database: Database, token: str) -> None:
    with database.write() as session:
        row = ImportedToken(sha256_digest(token.encode()), hint_of(token.encode()), "", "ana", ("ana@example.com",))
        ImportRun.begin().write(session, [row])


def run(rescan: Callable[[], Responded | None]) -> None:
    while rescan() is not None:
        pass


def enqueue(database: Database, target: Target) -> int:
    with database.write() as session:
        return manual.queue(session, target).id

"""Helpers for tests of the code that polls GitHub, for example to register a token."""

from __future__ import annotations

from sqlalchemy import select, update

from scanner.detection import sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records.database import Database
from scanner.records.models import ApiToken, Exposure, ScanJob, db_now
from scanner.records.source_models import SourceState
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun


def know(database: Database, token: str) -> str:
    """Register the token in the token store and return its digest."""
    digest = sha256_digest(token.encode())
    with database.write() as session:
        row = ImportedToken(digest, hint_of(token.encode()), "ci", "ana", ("ana@example.com",))
        ImportRun.begin().write(session, [row])
    return digest


def is_disabled(database: Database, digest: str) -> bool:
    with database.read() as session:
        at = session.execute(select(ApiToken.disabled_at).where(ApiToken.digest == digest)).scalar_one()
    return at is not None


def exposures(database: Database) -> list[Exposure]:
    with database.read() as session:
        return list(session.execute(select(Exposure).order_by(Exposure.id)).scalars())


def jobs_of(database: Database, kind: str) -> list[ScanJob]:
    with database.read() as session:
        return list(session.execute(select(ScanJob).where(ScanJob.kind == kind).order_by(ScanJob.id)).scalars())


def state_of(database: Database, source: str) -> SourceState:
    with database.read() as session:
        return session.execute(select(SourceState).where(SourceState.source == source)).scalar_one()


def make_due(database: Database) -> None:
    """Make every job and every poll due now."""
    with database.write() as session:
        session.execute(update(ScanJob).values(next_attempt_at=db_now(), leased_until=None))
        session.execute(update(SourceState).values(next_poll_at=db_now(), leased_until=None))

"""Pytest fixtures for tests of the whole service with a simulated GitHub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from scanner.records.models import ApiToken, NotificationSubject, ScanJob
from scanner.records.source_models import SourceState
from workers.sandbox import world
from workers.sandbox.world import World, until


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[World]:
    with world.running(tmp_path / "w", log_format="json") as running:
        yield running


@pytest.fixture
def polling(surroundings: World) -> Callable[[], bool]:
    """Return a function that returns whether the service has polled the event timeline."""

    def ask() -> bool:
        with surroundings.database.read() as session:
            statement = select(SourceState.last_success_at).where(SourceState.source == "public_events")
            return session.execute(statement).scalar_one_or_none() is not None

    return ask


def disabled(surroundings: World, digest: str) -> bool:
    with surroundings.database.read() as session:
        statement = select(ApiToken.disabled_at).where(ApiToken.digest == digest)
        return session.execute(statement).scalar_one() is not None


def idle(surroundings: World) -> bool:
    """Return whether every queued job has ended."""
    with surroundings.database.read() as session:
        return session.execute(select(ScanJob.id).where(ScanJob.state.in_(("queued", "running")))).first() is None


def told(surroundings: World) -> int:
    """Return the number of incidents about which owners got a mail."""
    with surroundings.database.read() as session:
        statement = select(NotificationSubject.id).where(NotificationSubject.channel == "email")
        return len(session.execute(statement).all())


__all__ = ["disabled", "idle", "told", "until"]

"""Fixtures for tests of the public events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import respx
from sqlalchemy import update

from scanner.detection import Detector
from scanner.github.client import GitHub, connect
from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.source_models import SourceState
from scanner.sources.polling.report import PollReport
from scanner.sources.timeline.poll import poll
from tests.scanner.sources.timeline.paging import API


@pytest.fixture
def github() -> Iterator[GitHub]:
    client = connect(API, "https://github.example", None)
    yield client
    client.close()


@pytest.fixture
def api() -> Iterator[respx.Router]:
    with respx.mock(base_url=API, assert_all_called=False) as router:
        yield router


@pytest.fixture
def polled(database: Database, github: GitHub, tmp_path: Path) -> Callable[[], PollReport]:
    """Return a function that polls the public events now."""

    def run() -> PollReport:
        with database.write() as session:
            session.execute(update(SourceState).values(next_poll_at=db_now(-1)))
        return poll(database, github, Detector(), state_dir=tmp_path, wait=lambda seconds: None)

    return run

"""Fixtures for tests of the event archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import respx

from scanner.github.client import GitHub
from scanner.records.database import Database
from scanner.settings import Settings, load_settings
from tests.scanner.sources.archive.archiving import ARCHIVE, Archive


@pytest.fixture
def archive() -> Iterator[respx.Router]:
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def own_settings(tmp_path: Path) -> Settings:
    return load_settings(state_dir=tmp_path / "state", archive_url=ARCHIVE)


@pytest.fixture
def reading(database: Database, client: GitHub, own_settings: Settings, archive: respx.Router) -> Archive:
    return Archive(database, client, own_settings, archive)

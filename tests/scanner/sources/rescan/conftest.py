"""Fixtures for tests of rescans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.detection import Detector
from scanner.github.client import GitHub
from scanner.records.database import Database
from scanner.response.policy import Policy
from scanner.response.respond import Response as Responded
from scanner.settings import Settings, load_settings
from scanner.sources.rescan.run import rescan_next


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(state_dir=tmp_path / "state")


@pytest.fixture
def rescan(database: Database, client: GitHub, settings: Settings) -> Callable[[], Responded | None]:
    return lambda: rescan_next(database, client, Detector(), Policy(), settings=settings)

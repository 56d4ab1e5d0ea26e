"""Fixtures for tests that run jobs for reading pushes."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanner.github.client import GitHub
from scanner.records.database import Database
from tests.scanner.sources.pushes.scanning import Bench


@pytest.fixture
def bench(database: Database, client: GitHub, tmp_path: Path) -> Bench:
    return Bench(database, client, tmp_path)

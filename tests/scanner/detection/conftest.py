"""Fixtures for tests of the detector."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.sandbox.workplace import Workplace


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    workplace = Workplace(tmp_path / "work", "nowhere")
    workplace.start()
    return workplace

"""A function that scans a whole git repository, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scanner.detection import Detector
from scanner.detection.history.scan import HistoryScan, scan_history

Token = Callable[[], str]


def scanned(git_dir: Path) -> HistoryScan:
    return scan_history(git_dir, Detector())

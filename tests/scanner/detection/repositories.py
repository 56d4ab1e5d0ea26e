"""Helpers for tests of git repositories: a function that scans a whole repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scanner.detection import Detector
from scanner.detection.history.scan import HistoryScan, scan_history

Token = Callable[[], str]


def scanned(git_dir: Path) -> HistoryScan:
    return scan_history(git_dir, Detector())

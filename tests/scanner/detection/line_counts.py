"""Counts the lines of code that a scan executes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


def executed_lines(run: Callable[[], T]) -> tuple[int, T]:
    """Call `run`. Return the number of executed lines of the package `scanner.detection`, and the result."""
    lines = 0

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if "scanner/detection" not in frame.f_code.co_filename or "tests" in frame.f_code.co_filename:
            return None
        lines += event == "line"
        return count

    sys.settrace(count)
    try:
        result = run()
    finally:
        sys.settrace(None)
    return lines, result

"""Figures as people read them: two digits, and units that fit."""

from __future__ import annotations

import math


def percent(share: float) -> str:
    """7.1 %, 33 %; never "100 %" of what is not all."""
    value = 100 * share
    if value < 10:
        return f"{value:.1f} %"
    return f"{min(value, 99.0) if share < 1 else value:.0f} %"


def duration(seconds: float) -> str:
    """49 s, 4 min, 1.2 h, 3.1 days; a dash for never."""
    if math.isinf(seconds):
        return "–"
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{two_digits(seconds / size)} {unit}"
    return f"{two_digits(seconds)} s"


def two_digits(value: float) -> str:
    """0.048, 0.25, 4.4, 36, 180, 400,000."""
    if value == 0:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def figure(key: str, value: float) -> str:
    """An input as its key says it is to be read."""
    if key.endswith("_share"):
        return percent(value)
    return duration(value) if key.endswith("_seconds") else number(value)


def number(value: float) -> str:
    """A figure as it was given: 0.5, 70, 34,000."""
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"

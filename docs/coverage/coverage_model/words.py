"""Formatting of figures for people: two digits, and fitting units."""

from __future__ import annotations

import math


def percent(share: float) -> str:
    """Format a share: 7.1 %, 33 %. Return "100 %" only for a share of exactly 1."""
    value = 100 * share
    if value < 10:
        return f"{value:.1f} %"
    return f"{min(value, 99.0) if share < 1 else value:.0f} %"


def duration(seconds: float) -> str:
    """Format a duration: 49 s, 4 min, 1.2 h, 3.1 days, or a dash for never."""
    if math.isinf(seconds):
        return "–"
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{two_digits(seconds / size)} {unit}"
    return f"{two_digits(seconds)} s"


def two_digits(value: float) -> str:
    """Format a number with two digits: 0.048, 0.25, 4.4, 36, 180, 400,000."""
    if value == 0:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def figure(key: str, value: float) -> str:
    """Format an input by the unit in its key."""
    if key.endswith("_share"):
        return percent(value)
    return duration(value) if key.endswith("_seconds") else number(value)


def number(value: float) -> str:
    """Format a number as it was given: 0.5, 70, 34,000."""
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"

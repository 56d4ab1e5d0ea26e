"""Delays between tries, spread: what failed together must not come back together."""

from __future__ import annotations

import random

MAX_SHARE = 0.25


def spread(seconds: float) -> float:
    """The delay and up to a quarter more, never less: a wait that was asked for is kept."""
    return seconds * random.uniform(1.0, 1.0 + MAX_SHARE)  # noqa: S311 - nobody gains by guessing it

"""Adds random time to retry delays, so that requests that failed together are not retried together."""

from __future__ import annotations

import random

MAX_SHARE = 0.25


def spread(seconds: float) -> float:
    """Return `seconds` plus a random delay of at most MAX_SHARE times `seconds`."""
    return seconds * random.uniform(1.0, 1.0 + MAX_SHARE)  # noqa: S311 - an attacker gains nothing by guessing it

"""The priorities of the jobs that read pushes, by how likely a push contains a leaked token."""

from __future__ import annotations

from typing import Literal

Likelihood = Literal["very_likely", "likely", "ordinary", "unlikely", "very_unlikely"]
"""The levels of likelihood, each of which is a range of scores."""

PRIORITIES: dict[Likelihood, int] = {
    "very_likely": 92,
    "likely": 95,
    "ordinary": 100,
    "unlikely": 110,
    "very_unlikely": 115,
}
"""Priorities of the jobs that read the pushes. The lowest number goes first."""

EARLIER_PRIORITY = 120
"""Priority of jobs for the commits before a push."""
PUSH_PRIORITIES = (*PRIORITIES.values(), EARLIER_PRIORITY)
ARCHIVE_PRIORITY = 200
"""Priority of pushes from the event archive."""

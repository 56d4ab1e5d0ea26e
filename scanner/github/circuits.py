"""The number of failures after which r8scan stops sending requests to a host."""

from __future__ import annotations

FAILURES_TO_OPEN = 10
"""After this many consecutive failures of a host, its circuit opens. All attempts of one call count as one failure."""

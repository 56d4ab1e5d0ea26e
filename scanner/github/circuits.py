"""The threshold of the hosts' circuit breakers. A module of its own, so that importing it loads no HTTP client."""

from __future__ import annotations

FAILURES_TO_OPEN = 10
"""After this many consecutive failures of a host, its circuit opens. All attempts of one call count as one failure."""

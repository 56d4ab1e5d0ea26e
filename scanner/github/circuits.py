"""The threshold of the circuit breakers, which stop requests to a failing host for some time."""

from __future__ import annotations

FAILURES_TO_OPEN = 10
"""After this many consecutive failures of a host, its circuit breaker stops requests to it for some time."""

"""The rule that opens the circuit breaker of a host that fails. It needs no I/O, so that anybody may import it."""

from __future__ import annotations

FAILURES_TO_OPEN = 10
"""Failures of one host in a row, of whatever calls, after which it is left alone; tries of one call count once."""

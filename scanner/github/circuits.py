"""Constants about failed requests to GitHub, shared with the status of the service."""

from __future__ import annotations

FAILURES_TO_OPEN = 10
"""After this many consecutive failures of a host, its circuit breaker stops requests to it for some time."""
CANNOT_BE_REACHED = "cannot be reached"
"""The message of a request that got no response begins with the name of the host and these words."""

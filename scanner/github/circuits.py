"""The threshold of the circuit breakers of hosts.

It has its own module, so that code that needs only the threshold does not import the HTTP client.
"""

from __future__ import annotations

FAILURES_TO_OPEN = 10
"""After this many consecutive failures of a host, its circuit opens. All attempts of one call count as one failure."""

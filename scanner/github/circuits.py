"""The number of failures of a host after which r8scan sends it no requests for some time."""

from __future__ import annotations

FAILURES_TO_OPEN = 10
"""After this many consecutive failures of a host, its circuit opens. All attempts of one call count as one failure."""

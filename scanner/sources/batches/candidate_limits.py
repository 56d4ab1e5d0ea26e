"""Limits on the candidates of one push or page, so that a flood of invented tokens costs little."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from scanner.detection import Candidate

MAX_DIGESTS = 10_000
"""Distinct tokens of a push or page. A page of the token store's answers holds a thousand."""
MAX_PLACES = 100
"""Places of one token in a push or page; a mail names a handful."""
MAX_CANDIDATES = 50_000
"""Places of all tokens together, some 1 kB each."""
OVER_LIMIT, PLACES_OVER_LIMIT = "candidates_over_limit", "places_over_limit"


class CandidateLimits:
    """Lets candidates through up to the limits and counts the others by reason. Safe to share between threads."""

    def __init__(self) -> None:
        self.over = Counter[str]()
        self._places: dict[str, int] = {}
        self._total = 0
        self._lock = threading.Lock()

    def take(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return those of the candidates that are within the limits."""
        with self._lock:
            return [candidate for candidate in candidates if self._is_taken(candidate.digest)]

    def _is_taken(self, digest: str) -> bool:
        places = self._places.get(digest, 0)
        if not places and (len(self._places) >= MAX_DIGESTS or self._total >= MAX_CANDIDATES):
            self.over[OVER_LIMIT] += 1
            return False
        if places >= MAX_PLACES or self._total >= MAX_CANDIDATES:
            self.over[PLACES_OVER_LIMIT] += 1
            return False
        self._places[digest] = places + 1
        self._total += 1
        return True

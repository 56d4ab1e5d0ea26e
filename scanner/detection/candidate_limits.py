"""Limits on the number of possible tokens in one push or one step of a job."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable, Iterable

from scanner.detection.documents import Candidate

MAX_DIGESTS = 5_000
"""The maximum number of distinct tokens in a push or in one step of a job."""
MAX_PLACES = 100
"""The maximum number of places in which one token was found."""
MAX_CANDIDATES = 10_000
"""The maximum number of places of all tokens together. Each place takes about 1 kB of memory."""
OVER_LIMIT, PLACES_OVER_LIMIT = "candidates_over_limit", "places_over_limit"


class CandidateLimits:
    """Counts possible tokens and the places where each token was found, and refuses those above a limit.

    `over` counts the refused ones by reason. Threads may share an object.
    """

    def __init__(self) -> None:
        self.over = Counter[str]()
        self._places: dict[Hashable, int] = {}
        self._total = 0
        self._lock = threading.Lock()

    def take(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return the possible tokens that are within the limits. Count the refused ones in `over`."""
        with self._lock:
            return [candidate for candidate in candidates if self._admits(candidate.digest)]

    def admits(self, key: Hashable) -> bool:
        """Count one place where the token with this key was found, and return whether the limits allow it."""
        with self._lock:
            return self._admits(key)

    def has_room_for(self, key: Hashable) -> bool:
        """Return whether the limits allow the token with this key, without counting it."""
        with self._lock:
            return key in self._places or (len(self._places) < MAX_DIGESTS and self._total < MAX_CANDIDATES)

    def _admits(self, key: Hashable) -> bool:
        places = self._places.get(key, 0)
        if not places and (len(self._places) >= MAX_DIGESTS or self._total >= MAX_CANDIDATES):
            self.over[OVER_LIMIT] += 1
            return False
        if places >= MAX_PLACES or self._total >= MAX_CANDIDATES:
            self.over[PLACES_OVER_LIMIT] += 1
            return False
        self._places[key] = places + 1
        self._total += 1
        return True

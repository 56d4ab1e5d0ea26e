"""A cache of scan results for contents that took long to scan. It contains no raw tokens."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from scanner.detection.documents import Candidate

COSTLY_SECONDS = 0.1
"""The result of a scan that takes more processor seconds than this is cached."""
COSTLY_SECONDS_PER_BYTE = 5e-9
"""In a large content, the limit is this much for each byte. The key of the cache, a SHA-256, takes 1e-9 seconds."""
MAX_CONTENTS = 2048
MAX_CANDIDATES = 200
"""The maximum number of possible tokens in one cached result. A result with more is not cached."""


@dataclass(frozen=True, slots=True)
class KnownContent:
    """The cached result of scanning one content. The candidates have no `place` (where they were published)."""

    candidates: tuple[Candidate, ...]
    unread: Mapping[str, int]
    expanded: int


def is_costly(size: int, seconds: float) -> bool:
    """Return whether to cache the result for a content of `size` bytes whose scan took `seconds`."""
    return seconds > COSTLY_SECONDS and seconds > COSTLY_SECONDS_PER_BYTE * size


class CostlyContents:
    """A cache of the scan results of the newest MAX_CONTENTS contents that took long to scan.

    The key is a content's SHA-256. Threads may share the cache.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, KnownContent] = OrderedDict()
        self._sizes: set[int] = set()
        self._lock = threading.Lock()

    def has_size(self, size: int) -> bool:
        """Return whether the cache may have a result for content of `size` bytes."""
        return size in self._sizes

    def recall(self, digest: bytes) -> KnownContent | None:
        """Return the cached result for the content with this SHA-256 digest, or None."""
        with self._lock:
            return self._known.get(digest)

    def remember(self, digest: bytes, size: int, content: KnownContent) -> None:
        """Cache the result for the content with this SHA-256 digest and size."""
        if len(content.candidates) > MAX_CANDIDATES:
            return
        with self._lock:
            self._known[digest] = content
            self._sizes.add(size)
            if len(self._known) > MAX_CONTENTS:
                self._known.popitem(last=False)
            if len(self._sizes) > 2 * MAX_CONTENTS:
                # Begin again with an empty cache. `_sizes` would otherwise grow forever, because it also keeps the
                # sizes of dropped results.
                self._sizes.clear()
                self._known.clear()

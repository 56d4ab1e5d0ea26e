"""What contents held whose reading was slow, so that copies of one bomb cost as much as one. No raw token is kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from scanner.detection.documents import Candidate

COSTLY_SECONDS = 0.1
"""Processor time above which a content is remembered."""
MAX_CONTENTS = 2048
MAX_CANDIDATES = 200
"""Of one content; one with more is read again wherever it stands, and its push or page pays for it."""


@dataclass(frozen=True, slots=True)
class KnownContent:
    """What a content held: candidates without a place, with containers named from inside it, and what was unread."""

    candidates: tuple[Candidate, ...]
    unread: Mapping[str, int]
    expanded: int


class CostlyContents:
    """The slowest contents of a process by their SHA-256, the latest MAX_CONTENTS. Shared by threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, KnownContent] = OrderedDict()
        self._sizes: set[int] = set()
        self._lock = threading.Lock()

    def has_size(self, size: int) -> bool:
        """Return whether a content of this size may be known, so that others need no digest."""
        return size in self._sizes

    def recall(self, digest: bytes) -> KnownContent | None:
        """Return what the content with this SHA-256 held, if it is known."""
        with self._lock:
            return self._known.get(digest)

    def remember(self, digest: bytes, size: int, content: KnownContent) -> None:
        """Keep what a content held, in place of the oldest one if there are too many."""
        if len(content.candidates) > MAX_CANDIDATES:
            return
        with self._lock:
            self._known[digest] = content
            self._sizes.add(size)
            if len(self._known) > MAX_CONTENTS:
                self._known.popitem(last=False)
            if len(self._sizes) > 2 * MAX_CONTENTS:
                # Sizes of contents that were dropped cost a digest each, no more; now and then they are forgotten all.
                self._sizes.clear()
                self._known.clear()

"""Finds the objects of a pack that may contain a token."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate

from scanner.detection.containers.recognition import container_kind
from scanner.detection.documents import is_lfs_pointer
from scanner.detection.patterns.matcher import WINDOW, hit_offsets
from scanner.detection.prefilter import CLEAN, plain_only
from scanner.detection.wide import wide_codec

BLOB = 3
"""The number of the object type blob in a pack."""
SMALL_BYTES = 16 << 10
"""Smaller objects are searched in batches, because each search has a fixed cost."""

_BETWEEN = b"\n\xff"
"""The bytes between two objects of a batch. No token contains them."""

Suspect = Callable[[int, int, bytes], None]
"""Called with an object that may contain a token: the number of its entry, its type and its content."""


class Search:
    """Finds the objects of one pack that may contain a token, and the Git LFS pointers."""

    def __init__(self, on_suspect: Suspect, on_pointer: Callable[[int], None]) -> None:
        self._on_suspect, self._on_pointer = on_suspect, on_pointer
        self._numbers: list[int] = []
        self._kinds: list[int] = []
        self._contents: list[bytes] = []
        self._size = 0
        self.objects = self.bytes = 0

    def take(self, number: int, kind: int, content: bytes) -> None:
        """Search an object, or keep a small object in memory until `flush` searches many together."""
        size = len(content)
        self.objects += 1
        self.bytes += size
        if size >= SMALL_BYTES:
            if plain_only(content) != CLEAN if kind == BLOB else hit_offsets(content):
                self._on_suspect(number, kind, content)
            return
        self._numbers.append(number)
        self._kinds.append(kind)
        self._contents.append(content)
        self._size += size + len(_BETWEEN)
        if self._size >= WINDOW:
            self.flush()

    def flush(self) -> None:
        """Search the small objects that are kept in memory."""
        contents, kinds = self._contents, self._kinds
        offsets = hit_offsets(_BETWEEN.join(contents))
        suspects: set[int] = set()
        if offsets:
            ends = list(accumulate(len(content) + len(_BETWEEN) for content in contents))
            suspects = {bisect_right(ends, offset) for offset in offsets}
        for row, content in enumerate(contents):
            if kinds[row] != BLOB or len(content) <= 3:
                continue
            # A Git LFS pointer may be in `suspects` as well, because the match may belong to the next object of the
            # batch.
            if is_lfs_pointer(content):
                self._on_pointer(self._numbers[row])
            if row not in suspects and (container_kind(content) is not None or wide_codec(content) is not None):
                suspects.add(row)
        for row in sorted(suspects):
            if plain_only(contents[row]) != CLEAN:
                self._on_suspect(self._numbers[row], kinds[row], contents[row])
        self._numbers, self._kinds, self._contents, self._size = [], [], [], 0

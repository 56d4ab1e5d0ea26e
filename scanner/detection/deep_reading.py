"""The interface for reading contents in depth: opening archives, decoding texts, and long searches."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scanner.detection.engine import all_findings
from scanner.detection.findings import Finding, located
from scanner.detection.git.pack_scanning import (
    OBJECT_NAME,
    DeferredObject,
    Look,
    PackAnswer,
    PackRequest,
    PackScan,
    scan_objects,
)
from scanner.detection.git.packs import LATE, PackObject, read_pack
from scanner.detection.limits import Limits, Meter
from scanner.detection.prefilter import fallback_tokens, plain_only

QUICK_SECONDS = 0.2
"""Processor seconds for opening one object of a pack. An object that needs more is read by a separate process."""
MANY_HITS_SECONDS = 1.0
OPENING_SHARE = 0.5
"""The share of a pack's time that may be spent on opening objects."""
SCAN_SHARE = 0.85
"""The share of a pack's time that may be spent on its objects. The rest is for finding the lines of the tokens."""
MAX_DEFERRED_BYTES = 4 << 20
"""The maximum size of all deferred objects of a pack together. The first object may be larger."""
MAX_DEFERRED = 64
_UNFINISHED = frozenset((LATE, "memory"))


@dataclass(frozen=True, slots=True)
class DeepReading:
    """The result of reading one content in depth. The findings have lines and columns."""

    findings: tuple[Finding, ...] = ()
    unread: Mapping[str, int] = field(default_factory=dict)
    expanded: int = 0
    seconds: float = 0.0


class DeepReader(Protocol):
    """The interface of readers that open archives and decode texts. Threads may share one reader."""

    def prepare(self) -> None:
        """Start the reader's process in the background, if the reader has one."""

    def read(
        self,
        content: bytes,
        name: str,
        *,
        seconds: float | None = None,
        expanded_bytes: int | None = None,
        patience: float | None = None,
    ) -> DeepReading:
        """Return every token in the content, and in the containers and encoded texts inside it.

        Args:
            name: The beginning of each finding's path, such as `a.zip` in `a.zip!/b.txt`.
            seconds: The maximum processor time.
            expanded_bytes: The maximum number of bytes to decompress and decode.
            patience: Seconds to wait for a free process. After that, the content counts as unread (`reader_busy`).
        """

    def read_pack(self, content: bytes, request: PackRequest) -> PackAnswer:
        """Return the tokens in a git pack. The answer has a `failure` if the whole pack cannot be scanned."""


class InProcessReader:
    """A reader that works in the calling process. Use it only in confined processes, or for trusted contents."""

    def prepare(self) -> None:
        """Do nothing, because this reader has no process to start."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock

    def read(
        self,
        content: bytes,
        name: str,
        *,
        seconds: float | None = None,
        expanded_bytes: int | None = None,
        patience: float | None = None,
    ) -> DeepReading:
        """Return every token in the content. `patience` is ignored, because this reader never waits."""
        del patience
        limits = self.limits.reduced(seconds, expanded_bytes)
        begun = self._clock()
        meter = Meter(limits, len(content), self._clock)
        found = all_findings(content, name, meter)
        findings = tuple(located(found, content))
        return DeepReading(findings, dict(meter.unread), meter.expanded, self._clock() - begun)

    def read_pack(self, content: bytes, request: PackRequest) -> PackAnswer:
        """Return the tokens found in the objects of a git pack."""
        deferred: list[DeferredObject] = []
        begun = self._clock()
        scan = self.scan_pack(content, request, deferred.append)
        return PackAnswer(scan, tuple(deferred), self._clock() - begun)

    def scan_pack(
        self, content: bytes, request: PackRequest, defer: Callable[[DeferredObject], None]
    ) -> PackScan[Finding]:
        """Scan the objects of a git pack for tokens. Call `defer` with each object that takes too long to open."""
        deadline = self._clock() + SCAN_SHARE * request.seconds
        pack = read_pack(content, request.limits, hash_name=request.hash_name, is_late=lambda: self._clock() > deadline)
        opening = _Opening(self, request, defer, lambda: deadline - self._clock())
        return scan_objects(
            pack,
            _glance,
            _token_of,
            frozenset(request.wants),
            opening.open,
            token_of=_token_of if request.keeps_beyond else None,
        )


def _token_of(found: Finding) -> bytes:
    return found.token


def _glance(item: PackObject, content: bytes) -> Look[Finding] | None:
    """Search an object quickly, without opening it. Return `_TO_OPEN` if it must be opened."""
    del item
    verdict = plain_only(content)
    if verdict.needs_reader:
        return _TO_OPEN
    return Look(tuple(located(verdict.findings, content))) if verdict.findings else None


_TO_OPEN: Look[Finding] = Look(is_postponed=True)


class _Opening:
    """Opens objects of a git pack that the quick search could not search completely."""

    def __init__(
        self,
        reader: InProcessReader,
        request: PackRequest,
        defer: Callable[[DeferredObject], None],
        time_left: Callable[[], float],
    ) -> None:
        self._reader, self._defer, self._time_left = reader, defer, time_left
        self._seconds = OPENING_SHARE * request.seconds if request.opens else 0.0
        self._deferred = self._deferred_bytes = 0

    def open(self, item: PackObject, content: bytes) -> Look[Finding] | None:
        """Return the tokens in an object. Pass the object to `_defer` if opening takes too long."""
        reading = self._opened(content)
        if _UNFINISHED.isdisjoint(reading.unread):
            return _look_of(reading, content)
        if self._has_room_for(len(content)):
            self._deferred += 1
            self._deferred_bytes += len(content)
            self._defer(DeferredObject(item.oid, item.type, content))
            return Look(is_deferred=True)
        return _look_of(reading, content)

    def _opened(self, content: bytes) -> DeepReading:
        left = min(self._seconds, self._time_left())
        if left <= 0:
            return DeepReading((), {LATE: 1})
        # Text with many possible tokens is safe to search, so allow more time for it than for opening an archive.
        most = MANY_HITS_SECONDS if plain_only(content).reason == "many_hits" else QUICK_SECONDS
        try:
            reading = self._reader.read(content, OBJECT_NAME, seconds=min(most, left))
        except MemoryError:
            reading = DeepReading((), {"memory": 1}, 0, most)
        self._seconds -= reading.seconds
        return reading

    def _has_room_for(self, size: int) -> bool:
        is_first = not self._deferred
        return is_first or (self._deferred < MAX_DEFERRED and self._deferred_bytes + size <= MAX_DEFERRED_BYTES)


def _look_of(reading: DeepReading, content: bytes) -> Look[Finding] | None:
    if not reading.unread:
        return Look(reading.findings) if reading.findings else None
    findings = reading.findings or tuple(located(fallback_tokens(content), content))
    return Look(findings, reading.unread, hashlib.sha256(content).hexdigest())

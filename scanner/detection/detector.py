"""The detector: one document in, its candidates out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from scanner.detection.budgets import COSTLY_SECONDS, SPENT, Budget, Remembered
from scanner.detection.digests import Digester, hint_of, sha256_digest
from scanner.detection.documents import Candidate, Document, Place
from scanner.detection.engine import Glance, findings_after, glance
from scanner.detection.findings import Finding, located
from scanner.detection.limits import Limits, Meter
from scanner.detection.matcher import hit_offsets
from scanner.detection.redact import redact

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins whose content is elsewhere: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
LARGEST_LFS_POINTER = 1024

_NOWHERE = Place("other")
_DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What one document held.

    `unread` counts what could not be read, by reason; `bytes_read` includes what was expanded.
    """

    candidates: tuple[Candidate, ...]
    unread: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0


class Detector:
    """Finds tokens in bytes. Safe to share between threads; keeps nothing of what it read.

    `limits` bound what one document may cost; `clock` counts seconds for them.
    """

    def __init__(
        self,
        digester: Digester = sha256_digest,
        limits: Limits = _DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._digester = digester
        self._limits = limits
        self._clock = clock

    def scan(self, document: Document, budget: Budget | None = None) -> ScanResult:
        """Every occurrence of a token in the document, in the order of their positions; those in containers last.

        `budget` is shared with the other documents of the same push, page or poll. Once it is spent, only what lies in
        plain text is found, and what would have cost more is counted as unread.
        """
        content = document.content
        seen = glance(content)
        pointer = {"lfs_pointer": 1} if is_lfs_pointer(content) else {}
        if seen is None:
            return ScanResult((), pointer, len(content))
        name = _base_name(document.place)
        if budget is None:
            result = self._scanned(seen, document, name, self._limits)
        else:
            result = self._within(budget, seen, document, name)
        return replace(result, unread={**result.unread, **pointer}) if pointer else result

    def _scanned(self, seen: Glance, document: Document, name: str, limits: Limits) -> ScanResult:
        content = document.content
        meter = Meter(limits, len(content), self._clock)
        found = findings_after(seen, content, name, meter)
        place = redacted_place(document.place) if found else _NOWHERE
        candidates = [self._candidate(finding, place, name) for finding in located(found, content)]
        candidates.sort(key=_order)
        return ScanResult(tuple(candidates), dict(meter.unread), len(content) + meter.expanded)

    def _within(self, budget: Budget, seen: Glance, document: Document, name: str) -> ScanResult:
        """The same at the budget's cost; a costly content that was met before costs nothing again."""
        content = document.content
        if budget.has_size(len(content)):
            held = budget.recall(name, hashlib.sha256(content).digest())
            if held is not None:
                place = redacted_place(document.place)
                moved = tuple(replace(candidate, place=place) for candidate in held.candidates)
                return ScanResult(moved, held.unread, held.bytes_read)
        left = budget.remaining()
        if not left.findings and seen.windows:
            return ScanResult((), {SPENT: 1}, len(content))
        if not all(left):
            plain = self._scanned(seen, document, name, replace(self._limits, depth=0, seconds=0.0, expanded_bytes=0))
            budget.spend(findings=len(plain.candidates))
            return replace(plain, unread={SPENT: 1} if plain.unread else {})
        limits = replace(
            self._limits,
            seconds=min(self._limits.seconds, left.seconds),
            expanded_bytes=min(self._limits.expanded_bytes, left.work),
        )
        began = time.thread_time()
        result = self._scanned(seen, document, name, limits)
        seconds = time.thread_time() - began
        budget.spend(seconds=seconds, work=result.bytes_read, findings=len(result.candidates))
        if seconds > COSTLY_SECONDS:
            held = Remembered(result.candidates, result.unread, result.bytes_read)
            budget.remember(name, hashlib.sha256(content).digest(), len(content), held)
        return result

    def scan_bytes(self, content: bytes, name: str = "") -> ScanResult | None:
        """The same for bytes whose place is not looked up yet: candidates have an empty place of kind `other`.

        None if all was read and nothing found, at the least possible cost: for millions of small objects.
        """
        seen = glance(content)
        if seen is None:
            return None
        meter = Meter(self._limits, len(content), self._clock)
        found = findings_after(seen, content, name or "document", meter)
        if not found and not meter.unread:
            return None
        candidates = [self._candidate(finding, _NOWHERE, name or "document") for finding in located(found, content)]
        candidates.sort(key=_order)
        return ScanResult(tuple(candidates), dict(meter.unread), len(content) + meter.expanded)

    @staticmethod
    def suspects(batch: bytes) -> list[int]:
        """Sorted offsets in many contents put together: those that hold none of these offsets, and are no container by
        `container_kind()` or `wide_codec()`, hold no token and need no `scan_bytes()`."""
        return hit_offsets(batch)

    def _candidate(self, finding: Finding, place: Place, name: str) -> Candidate:
        return Candidate(
            digest=self._digester(finding.token),
            hint=hint_of(finding.token),
            place=place,
            line=finding.line,
            column=finding.column,
            spelling=">".join(finding.spelling),
            container=redact("!/".join((name, *finding.members))) if finding.members else "",
        )


def is_lfs_pointer(content: bytes) -> bool:
    """Whether it only says where the file's real content is."""
    return len(content) < LARGEST_LFS_POINTER and content.startswith(LFS_POINTER)


def _order(candidate: Candidate) -> tuple[str, int, int]:
    return (candidate.container, candidate.line, candidate.column)


def _base_name(place: Place) -> str:
    path = (place.path or "").rstrip("/")
    return path.rpartition("/")[2] or "document"


def redacted_place(place: Place) -> Place:
    """The place with every token in its strings replaced by its hint."""
    return replace(
        place,
        url=redact(place.url),
        repository=redact(place.repository) if place.repository else place.repository,
        path=redact(place.path) if place.path else place.path,
        ref=redact(place.ref) if place.ref else place.ref,
    )

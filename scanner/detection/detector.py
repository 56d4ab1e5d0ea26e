"""The detector: one document in, its candidates out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from scanner.detection.budgets import SPENT, Budget
from scanner.detection.deep_reading import DeepReader, DeepReading, InProcessReader
from scanner.detection.digests import Digester, hint_of, sha256_digest
from scanner.detection.documents import Candidate, Document, Place
from scanner.detection.findings import Finding, located
from scanner.detection.limits import Limits
from scanner.detection.matcher import hit_offsets
from scanner.detection.prefilter import plain_only, plain_tokens
from scanner.detection.redact import redact

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins whose content is elsewhere: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
LARGEST_LFS_POINTER = 1024

_NOWHERE = Place("other")
_TIME_REASONS = frozenset((SPENT, "seconds", "reader_busy", "reader_deadline"))
_DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What one document held.

    `unread` counts what could not be read, by reason; `bytes_read` includes what was expanded. `content_digest` is the
    SHA-256 of the content, in hex, where something of it was not read.
    """

    candidates: tuple[Candidate, ...]
    unread: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0
    content_digest: str = ""

    @property
    def ran_out_of_time(self) -> bool:
        """Whether reading the document once more, with more time, may find more."""
        return not _TIME_REASONS.isdisjoint(self.unread)


class Detector:
    """Finds tokens in bytes. Safe to share between threads; keeps nothing of what it read.

    Every content gets a quick, linear look in this process. What has to be opened, decoded or searched at length goes
    to `reader`: by default in this process too, for contents that are trusted; in the service in processes of its own.

    Args:
        digester: How a raw token becomes a digest.
        limits: What one document may cost when no `reader` is given.
        clock: Counts seconds for these limits.
        reader: Reads in depth.
    """

    def __init__(
        self,
        digester: Digester = sha256_digest,
        limits: Limits = _DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
        *,
        reader: DeepReader | None = None,
    ) -> None:
        self._digester = digester
        self._reader = reader or InProcessReader(limits, clock)

    def scan(self, document: Document, budget: Budget | None = None, *, patience: float | None = None) -> ScanResult:
        """Return every occurrence of a token in the document in the order of their positions, those in containers last.

        Args:
            budget: What the documents of one push, page or poll may cost together. Once it is spent, only what lies in
                plain text is found, and the document counts as unread.
            patience: Seconds to wait where other contents are being read in depth.
        """
        content = document.content
        name = _base_name(document.place)
        pointer = {"lfs_pointer": 1} if is_lfs_pointer(content) else {}
        reading = self._read(content, name, budget, patience)
        place = redacted_place(document.place) if reading.findings else _NOWHERE
        return self._result(content, name, place, reading, pointer)

    def scan_bytes(self, content: bytes, name: str = "", budget: Budget | None = None) -> ScanResult | None:
        """Scan bytes whose place is not looked up yet: candidates have an empty place of kind `other`.

        Return None if all was read and nothing found, at the least possible cost: for millions of small objects.
        """
        name = name or "document"
        reading = self._read(content, name, budget, None)
        if not reading.findings and not reading.unread:
            return None
        return self._result(content, name, _NOWHERE, reading, {})

    def _read(self, content: bytes, name: str, budget: Budget | None, patience: float | None) -> DeepReading:
        verdict = plain_only(content)
        if not verdict.needs_reader:
            reading = DeepReading(tuple(located(verdict.findings, content)))
        elif budget is None:
            reading = self._reader.read(content, name, patience=patience)
        elif budget.is_spent:
            reading = DeepReading((), {SPENT: 1})
        else:
            reading = self._reader.read(content, name, seconds=budget.remaining().seconds, patience=patience)
        if budget is not None:
            read_bytes = len(content) + reading.expanded
            budget.spend(seconds=reading.seconds, work=read_bytes, findings=len(reading.findings))
        if reading.unread and not reading.findings:
            # Reading in depth came to nothing, or did not begin. What lies there in plain is found all the same.
            reading = replace(reading, findings=tuple(located(plain_tokens(content), content)))
        return reading

    def _result(
        self, content: bytes, name: str, place: Place, reading: DeepReading, unread: Mapping[str, int]
    ) -> ScanResult:
        candidates = [self._candidate(finding, place, name) for finding in reading.findings]
        candidates.sort(key=_order)
        return ScanResult(
            tuple(candidates),
            {**reading.unread, **unread},
            len(content) + reading.expanded,
            hashlib.sha256(content).hexdigest() if reading.unread else "",
        )

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

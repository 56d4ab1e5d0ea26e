"""Scans one document and returns the possible tokens in it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from scanner.detection.budgets import SPENT, ScanBudget
from scanner.detection.costly_contents import CostlyContents, KnownContent, is_costly
from scanner.detection.deep_reading import DeepReader, DeepReading, InProcessReader
from scanner.detection.digests import Digester, sha256_digest
from scanner.detection.documents import Candidate, Document, Place, is_lfs_pointer
from scanner.detection.findings import Finding, located
from scanner.detection.limits import Limits
from scanner.detection.patterns.matcher import WINDOW, hit_offsets
from scanner.detection.patterns.token_formats import hint_of
from scanner.detection.prefilter import CLEAN, NOT_EXAMINED, PlainVerdict, fallback_tokens, plain_only
from scanner.detection.redaction import redact

_NOWHERE = Place("other")
_TIME_REASONS = frozenset((SPENT, "seconds", "reader_busy", "reader_deadline"))
_DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The result of scanning one document.

    Attributes:
        candidates: In the order of their positions.
        bytes_read: The bytes of the content and of everything that was decompressed and decoded.
        content_digest: The SHA-256 of the content in hex. Empty if the whole content was read.
    """

    candidates: tuple[Candidate, ...]
    unread: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0
    content_digest: str = ""

    @property
    def ran_out_of_time(self) -> bool:
        """Whether a second scan with more time may find more."""
        return not _TIME_REASONS.isdisjoint(self.unread)

    @property
    def ran_out_of_budget(self) -> bool:
        """Whether the scan stopped because the budget that documents share was used up."""
        return SPENT in self.unread or "reader_busy" in self.unread


class Detector:
    """Finds possible tokens in bytes, and returns their digests. Threads may share it. It keeps no raw tokens.

    Args:
        limits: The limits on the cost of one document. Used only without `reader`.
        clock: Returns the time in seconds. Used only without `reader`.
        reader: Opens and decodes contents. The default is only for trusted contents.
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
        self.reader = reader or InProcessReader(limits, clock)
        self._is_in_process = reader is None
        self._costly = CostlyContents()

    @property
    def digester(self) -> Digester:
        """The function that computes the digest of a token."""
        return self._digester

    def scan(
        self, document: Document, budget: ScanBudget | None = None, *, patience: float | None = None
    ) -> ScanResult:
        """Return the tokens in the document, in the order of their positions. Tokens in archives come last.

        Args:
            budget: A limit on the cost of several documents together. After it is used up, only plain text is searched.
            patience: Seconds to wait while all reader processes are busy.
        """
        content = document.content
        result = self._read(content, _base_name(document.place), budget, patience)
        if is_lfs_pointer(content):
            result = replace(result, unread={**result.unread, "lfs_pointer": 1})
        if not result.candidates:
            return result
        place = redacted_place(document.place)
        return replace(result, candidates=tuple(replace(found, place=place) for found in result.candidates))

    def scan_bytes(self, content: bytes, name: str = "", budget: ScanBudget | None = None) -> ScanResult | None:
        """Scan bytes whose place is unknown. Return None if everything was read and no token was found."""
        verdict = self._verdict(content, budget)
        if verdict is CLEAN and budget is None:
            return None
        result = self.scan_after(verdict, content, name or "document", budget)
        return result if result.candidates or result.unread else None

    def _read(self, content: bytes, name: str, budget: ScanBudget | None, patience: float | None) -> ScanResult:
        return self.scan_after(self._verdict(content, budget), content, name, budget, patience)

    def _verdict(self, content: bytes, budget: ScanBudget | None) -> PlainVerdict:
        # Skip the quick search, because the reader in this process would search the same large content again.
        if self._is_in_process and budget is None and len(content) > WINDOW:
            return NOT_EXAMINED
        return plain_only(content)

    def scan_after(
        self,
        verdict: PlainVerdict,
        content: bytes,
        name: str,
        budget: ScanBudget | None = None,
        patience: float | None = None,
    ) -> ScanResult:
        """Finish the scan of content that `plain_only` has searched quickly. `place` of the possible tokens is not set.

        Args:
            name: The beginning of the path of each possible token, such as `a.zip` in `a.zip!/b.txt`.
            patience: Seconds to wait while all reader processes are busy.
        """
        if not verdict.needs_reader:
            if not verdict.findings:
                return ScanResult((), {}, len(content))
            reading = DeepReading(tuple(located(verdict.findings, content)))
            result = self._result(content, name, reading)
        else:
            digest = hashlib.sha256(content).digest() if self._costly.has_size(len(content)) else b""
            known = self._costly.recall(digest) if digest else None
            if known is not None:
                return _as_known(known, content, name)
            reading = self._read_in_depth(content, name, budget, patience)
            result = self._result(content, name, reading)
            if is_costly(len(content), reading.seconds) and not result.ran_out_of_budget:
                self._remember(content, name, result, reading.expanded)
        if budget is not None:
            budget.spend(seconds=reading.seconds, work=result.bytes_read, findings=len(result.candidates))
        return result

    def _read_in_depth(
        self, content: bytes, name: str, budget: ScanBudget | None, patience: float | None
    ) -> DeepReading:
        if budget is None:
            reading = self.reader.read(content, name, patience=patience)
        elif budget.is_spent:
            reading = DeepReading((), {SPENT: 1})
        else:
            left = budget.remaining()
            spend = max(left.work - len(content), 0)
            reading = self.reader.read(content, name, seconds=left.seconds, expanded_bytes=spend, patience=patience)
            if reading.unread and reading.seconds >= left.seconds:
                reading = replace(reading, unread={**reading.unread, SPENT: 1})
        if reading.unread and not reading.findings:
            # The content was not read in depth. Return at least the tokens in plain text.
            reading = replace(reading, findings=tuple(located(fallback_tokens(content), content)))
        return reading

    def _result(self, content: bytes, name: str, reading: DeepReading) -> ScanResult:
        candidates = self.candidates_of(reading.findings, name)
        candidates.sort(key=_order)
        digest = hashlib.sha256(content).hexdigest() if reading.unread else ""
        return ScanResult(tuple(candidates), dict(reading.unread), len(content) + reading.expanded, digest)

    def _remember(self, content: bytes, name: str, result: ScanResult, expanded: int) -> None:
        prefix = len(redact(name))
        # Remove the content's name from the paths, because the cached result is also used for copies with other names.
        # Outside archives, `container` is empty.
        inside = tuple(
            replace(found, container=found.container[prefix:]) if found.container else found
            for found in result.candidates
        )
        digest = hashlib.sha256(content).digest()
        self._costly.remember(digest, len(content), KnownContent(inside, result.unread, expanded))

    @staticmethod
    def suspects(batch: bytes) -> list[int]:
        """Return the sorted offsets at which a token or a long base64 text may begin in several joined contents.

        Offsets in containers, UTF-16 and UTF-32 are not found.
        """
        return hit_offsets(batch)

    def candidates_of(self, findings: Iterable[Finding], name: str) -> list[Candidate]:
        """Return a candidate (the digest and a hint) for each finding, without the `place` where it was published."""
        shown_name = redact(name)
        return [self._candidate(finding, shown_name) for finding in findings]

    def _candidate(self, finding: Finding, shown_name: str) -> Candidate:
        return Candidate(
            digest=self._digester(finding.token),
            hint=hint_of(finding.token),
            place=_NOWHERE,
            line=finding.line,
            column=finding.column,
            encoding=">".join(finding.encoding),
            container=shown_name + redact("".join(f"!/{member}" for member in finding.members))
            if finding.members
            else "",
        )


def _as_known(known: KnownContent, content: bytes, name: str) -> ScanResult:
    """Return the cached result of an identical content, for a content named `name`."""
    prefix = redact(name)
    candidates = tuple(
        replace(found, container=f"{prefix}{found.container}") if found.container else found
        for found in known.candidates
    )
    digest = hashlib.sha256(content).hexdigest() if known.unread else ""
    return ScanResult(candidates, known.unread, len(content) + known.expanded, digest)


def _order(candidate: Candidate) -> tuple[str, int, int]:
    return (candidate.container, candidate.line, candidate.column)


def _base_name(place: Place) -> str:
    path = (place.path or "").rstrip("/")
    return path.rpartition("/")[2] or "document"


def redacted_place(place: Place) -> Place:
    """Return the place with every token in its address, path and other texts replaced by the token's short hint."""
    return replace(
        place,
        url=redact(place.url),
        repository=redact(place.repository) if place.repository else place.repository,
        path=redact(place.path) if place.path else place.path,
        ref=redact(place.ref) if place.ref else place.ref,
    )

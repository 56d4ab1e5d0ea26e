"""Reading in depth: opening, decoding and long searches, as opposed to the quick look that every content gets.

The interface only, and its plain implementation inside this process. `scanner.isolation` has the one that runs in
processes of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from scanner.detection.engine import all_findings
from scanner.detection.findings import Finding, located
from scanner.detection.limits import Limits, Meter


@dataclass(frozen=True, slots=True)
class DeepReading:
    """What one content holds. `unread` counts what was not read, by reason; `seconds` is processor time spent.

    Findings are located: each has a line and a column.
    """

    findings: tuple[Finding, ...] = ()
    unread: Mapping[str, int] = field(default_factory=dict)
    expanded: int = 0
    seconds: float = 0.0


class DeepReader(Protocol):
    """Something that reads contents in depth. Safe to share between threads."""

    def read(
        self, content: bytes, name: str, *, seconds: float | None = None, patience: float | None = None
    ) -> DeepReading:
        """Return every token in the content and in what it contains.

        Args:
            name: What the content is called in the way through containers to a finding.
            seconds: Processor time that may be spent, at most what the reader's limits allow.
            patience: Seconds to wait for a free reader. Where there is none, `reader_busy` is counted as unread.
        """


class InProcessReader:
    """Reads in the calling process: for confined readers, and for contents that are trusted."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock

    def read(
        self, content: bytes, name: str, *, seconds: float | None = None, patience: float | None = None
    ) -> DeepReading:
        """See `DeepReader.read`. Nobody has to wait here."""
        del patience
        limits = self.limits
        if seconds is not None and seconds < limits.seconds:
            limits = replace(limits, seconds=max(seconds, 0.0))
        begun = self._clock()
        meter = Meter(limits, len(content), self._clock)
        found = all_findings(content, name, meter)
        findings = tuple(located(found, content))
        return DeepReading(findings, dict(meter.unread), meter.expanded, self._clock() - begun)

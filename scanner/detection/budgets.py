"""Limits on the total cost of scanning several documents together."""

from __future__ import annotations

import threading
from typing import NamedTuple

SPENT = "budget"
"""The reason for unread documents if the budget of their push, page or poll was used up."""
PUSH_SECONDS, PUSH_WORK, PUSH_FINDINGS = 20.0, 2 << 30, 200_000
"""The budget of one push: processor seconds, bytes and tokens."""
FIRST_LOOK_SECONDS = 0.15
"""Processor seconds for one push or file in the normal queue. If it needs more, a separate job scans it."""
PAGE_SECONDS, PAGE_WORK, PAGE_FINDINGS = 120.0, 8 << 30, 1_000_000
"""The budget of one step of a job, for example a list of pushes: processor seconds, bytes and tokens."""
POLL_SECONDS, POLL_WORK, POLL_FINDINGS = 2.0, 256 << 20, 20_000


class Remaining(NamedTuple):
    """The part of a budget that is left: processor seconds, bytes to read, and tokens. No value is below zero."""

    seconds: float
    work: int
    findings: int


class ScanBudget:
    """A limit on the total cost of scanning several documents: processor seconds, bytes read and tokens found.

    A budget may be part of a larger budget, `within`. Threads may share a budget.
    """

    def __init__(self, seconds: float, work: int, findings: int, within: ScanBudget | None = None) -> None:
        self._within = within
        self.seconds, self.work, self.findings = seconds, work, findings
        self._left = Remaining(seconds, work, findings)
        self._lock = threading.Lock()

    @classmethod
    def for_push(cls, within: ScanBudget | None = None) -> ScanBudget:
        """Return the budget for scanning one push, as a part of the larger budget `within`."""
        return cls(PUSH_SECONDS, PUSH_WORK, PUSH_FINDINGS, within)

    @classmethod
    def for_first_look(cls, within: ScanBudget | None = None) -> ScanBudget:
        """Return a small budget for the first scan of one push or file, as a part of the larger budget `within`."""
        return cls(FIRST_LOOK_SECONDS, PUSH_WORK, PUSH_FINDINGS, within)

    @classmethod
    def for_page(cls) -> ScanBudget:
        """Return the budget for one step of a job, for example a list of pushes."""
        return cls(PAGE_SECONDS, PAGE_WORK, PAGE_FINDINGS)

    @classmethod
    def for_poll(cls) -> ScanBudget:
        """Return the budget for scanning all texts in one response of GitHub."""
        return cls(POLL_SECONDS, POLL_WORK, POLL_FINDINGS)

    def remaining(self) -> Remaining:
        """Return the processor seconds, bytes and tokens that are left."""
        with self._lock:
            left = self._left
        if self._within is None:
            return left
        other = self._within.remaining()
        return Remaining(
            min(left.seconds, other.seconds), min(left.work, other.work), min(left.findings, other.findings)
        )

    def spend(self, *, seconds: float = 0.0, work: int = 0, findings: int = 0) -> None:
        """Subtract the cost of scanning a document: processor seconds, bytes read and tokens found."""
        with self._lock:
            left = self._left
            self._left = Remaining(
                max(left.seconds - seconds, 0.0), max(left.work - work, 0), max(left.findings - findings, 0)
            )
        if self._within is not None:
            self._within.spend(seconds=seconds, work=work, findings=findings)

    @property
    def has_time(self) -> bool:
        """Whether processor time is left in this budget and in the larger budget `within`."""
        return self.remaining().seconds > 0

    @property
    def is_spent(self) -> bool:
        """Whether this budget or the larger budget `within` has no processor time, bytes or tokens left."""
        return not all(self.remaining())

    @property
    def is_spent_by_others(self) -> bool:
        """Whether the larger budget `within` is used up, although this budget itself is not."""
        with self._lock:
            has_own = all(self._left)
        return has_own and self.is_spent

"""Budgets: what all documents of one push, page or poll may cost together.

`Limits` bound one document. Without a budget, a push with 200 variants of one hostile file could spend 200 times that.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

SPENT = "budget"
"""The reason under which a document counts as unread once the budget of its push, page or poll is spent."""
PUSH_SECONDS, PUSH_WORK, PUSH_FINDINGS = 20.0, 2 << 30, 200_000
"""A push. Work is bytes; a pack of 32 MiB holds some 200 MiB of text."""
FIRST_LOOK_SECONDS = 1.0
"""A push or file of a page, before it is left to the slow jobs: ordinary ones take some milliseconds."""
PAGE_SECONDS, PAGE_WORK, PAGE_FINDINGS = 120.0, 8 << 30, 1_000_000
"""A page of pushes or files, a batch of the archive, a page of comments; far below the time limit of a page."""
POLL_SECONDS, POLL_WORK, POLL_FINDINGS = 2.0, 256 << 20, 20_000


class Remaining(NamedTuple):
    """What is left of a budget. Nothing is below zero."""

    seconds: float
    work: int
    findings: int


class Budget:
    """Processor seconds, bytes read and tokens found that are left to a group of documents.

    Shared by the threads that read them. A document may overspend what is left, by its own limits at most. What is
    spent is taken from `within` as well, the budget of a bigger group.
    """

    def __init__(self, seconds: float, work: int, findings: int, within: Budget | None = None) -> None:
        self._within = within
        self.seconds, self.work, self.findings = seconds, work, findings
        self._left = Remaining(seconds, work, findings)
        self._lock = threading.Lock()

    @classmethod
    def for_push(cls, within: Budget | None = None) -> Budget:
        """Return the budget of one push of a page."""
        return cls(PUSH_SECONDS, PUSH_WORK, PUSH_FINDINGS, within)

    @classmethod
    def for_first_look(cls, within: Budget | None = None) -> Budget:
        """Return the budget of one push or file in a page of many, which must not wait for it long."""
        return cls(FIRST_LOOK_SECONDS, PUSH_WORK, PUSH_FINDINGS, within)

    @classmethod
    def for_page(cls) -> Budget:
        """Return the budget of a page of pushes or files, or of a batch of the archive."""
        return cls(PAGE_SECONDS, PAGE_WORK, PAGE_FINDINGS)

    @classmethod
    def for_poll(cls) -> Budget:
        """Return the budget of all texts that one poll brings."""
        return cls(POLL_SECONDS, POLL_WORK, POLL_FINDINGS)

    def remaining(self) -> Remaining:
        """Return what is left, here and in the bigger group."""
        with self._lock:
            left = self._left
        if self._within is None:
            return left
        other = self._within.remaining()
        return Remaining(
            min(left.seconds, other.seconds), min(left.work, other.work), min(left.findings, other.findings)
        )

    def spend(self, *, seconds: float = 0.0, work: int = 0, findings: int = 0) -> None:
        """Take from what is left. `seconds` are of processor time, so that a busy machine spends no more."""
        with self._lock:
            left = self._left
            self._left = Remaining(
                max(left.seconds - seconds, 0.0), max(left.work - work, 0), max(left.findings - findings, 0)
            )
        if self._within is not None:
            self._within.spend(seconds=seconds, work=work, findings=findings)

    @property
    def has_time(self) -> bool:
        """Whether seconds are left, here and in the bigger group."""
        return self.remaining().seconds > 0

    @property
    def is_spent(self) -> bool:
        """Whether one of the three is used up, here or in the bigger group."""
        return not all(self.remaining())

    @property
    def is_spent_by_others(self) -> bool:
        """Whether only the bigger group's is used up: read alone, these documents would have had more."""
        with self._lock:
            has_own = all(self._left)
        return has_own and self.is_spent

"""The report of a poll, the same for every source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PollReport:
    """The numbers of items that a poll stored.

    `error` is the reason why the whole poll or a part of it failed, or None.
    """

    polled: bool = False
    events: int = 0
    jobs: int = 0
    candidates: int = 0
    error: str | None = None

    def plus(self, other: PollReport) -> PollReport:
        """Return the sum of two reports of one source. Its error is that of `other`, the later report."""
        return PollReport(
            self.polled or other.polled,
            self.events + other.events,
            self.jobs + other.jobs,
            self.candidates + other.candidates,
            other.error,
        )

"""The result of a poll, in the same form for every source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PollReport:
    """The number of items that a poll stored, by kind. `error` says why the poll failed, or is None."""

    polled: bool = False
    events: int = 0
    jobs: int = 0
    candidates: int = 0
    error: str | None = None

    def plus(self, other: PollReport) -> PollReport:
        """Return the sum of two reports of one source, with the error of `other`."""
        return PollReport(
            self.polled or other.polled,
            self.events + other.events,
            self.jobs + other.jobs,
            self.candidates + other.candidates,
            other.error,
        )

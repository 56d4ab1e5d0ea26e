"""What a poll of any source led to: what somebody should look at now."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PollReport:
    """Rows by kind; `error` is the reason of what went wrong, None if nothing did."""

    polled: bool = False
    events: int = 0
    jobs: int = 0
    candidates: int = 0
    error: str | None = None

    def plus(self, other: PollReport) -> PollReport:
        """Return the sum of two polls of one source; the error is the later one's."""
        return PollReport(
            self.polled or other.polled,
            self.events + other.events,
            self.jobs + other.jobs,
            self.candidates + other.candidates,
            other.error,
        )

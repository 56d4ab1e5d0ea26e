"""Which spans of time repository search is asked for next, by what it showed before. Pure: no requests, no rows.

Spans are whole seconds since the epoch, both ends included, as GitHub's search has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_RESULTS = 1000
"""GitHub shows no more of one search."""
WANTED_RESULTS = 700
"""Windows are as wide as holds about this many: a burst must not exceed the 1,000."""
MIN_WIDTH, MAX_WIDTH, FIRST_WIDTH = 1, 20, 5
"""Seconds. Times have a grain of one second; a wide window delays what was pushed at its beginning."""
MAX_BEHIND_WIDTH = 600
"""Seconds of a window that is caught up with, where no delay is added by its width."""
MIN_SETTLE, MAX_SETTLE, FIRST_SETTLE = 5.0, 600.0, 60.0
"""Seconds from a window's end to its first look: the search index needs some time to learn of a push."""
SETTLE_MARGIN = 2.0
MIN_PROBED_RATE = 1.0
"""Pushes a second from which on the age of the index's newest entry tells its lag."""
LOOKS_AFTER = (120, 900, 3600)
"""Seconds after the first look at which a window is asked for again, for what the index has learned since."""
SAMPLE_EVERY = 8
"""One window in so many is read whole at each later look, to measure what the index adds."""
WORTH_READING = 0.02
"""Share of late entries above which every window is read whole at this look."""
TOO_LATE, EARLY_ENOUGH = 0.05, 0.01
"""Shares of late entries at the first later look above and below which the first look is made later, or sooner."""
THIN = 0.5
"""Share of the usual entries below which a window is suspected to be incomplete."""
MAX_LAG_SECONDS = 120.0
"""What is further behind than this is left to catching up, so that new pushes are not read late because of old ones."""
MAX_BEHIND_SECONDS = 86_400
MAX_SPANS = 100
_SMOOTHING = 0.05

Span = tuple[int, int]


@dataclass(slots=True)
class Plan:
    """Where the source stands. It is the source's cursor.

    Attributes:
        until: The second before which every window had its first look, or lies in `behind`.
        width: Seconds of the next window.
        settle: Seconds from a window's end to its first look.
        rate: Repositories a second, smoothed; 0 before the first window.
        late: By later look, the smoothed share of a window's entries that it added.
        behind: Spans that had no look yet and are caught up with, oldest first.
        behind_width: Seconds of the next window that is caught up with.
        probe_at: When the index's newest entry is asked for next.
        windows: First looks so far.
        compare_at: When the REST search is asked next whether GraphQL shows everything.
        checked: The second before which GraphQL showed everything, or the REST search is used.
        compared: GraphQL's and REST's count of the same window, at the latest comparison.
        is_partial: GraphQL shows this credential only a part, so that the REST search is used.
        debt: Share of a window that the points of this hour do not pay for.
    """

    until: int
    width: int = FIRST_WIDTH
    settle: float = FIRST_SETTLE
    rate: float = 0.0
    late: list[float] = field(default_factory=lambda: [0.0] * len(LOOKS_AFTER))
    behind: list[Span] = field(default_factory=list)
    behind_width: int = FIRST_WIDTH
    probe_at: float = 0.0
    windows: int = 0
    compare_at: float = 0.0
    checked: int = 0
    compared: tuple[int, int] = (0, 0)
    is_partial: bool = False
    debt: float = 0.0

    @classmethod
    def from_json(cls, value: Mapping[str, Any], now: float) -> Plan:
        """Return the plan of a cursor; a new one begins now."""
        if "until" not in value:
            return cls(until=int(now - FIRST_SETTLE))
        spans = [(int(start), int(end)) for start, end in value["behind"]]
        return cls(**{**value, "behind": spans, "compared": tuple(value["compared"])})

    def to_json(self) -> dict[str, Any]:
        return {
            "until": self.until,
            "width": self.width,
            "settle": round(self.settle, 1),
            "rate": round(self.rate, 3),
            "late": [round(share, 4) for share in self.late],
            "behind": [list(span) for span in self.behind],
            "behind_width": self.behind_width,
            "probe_at": round(self.probe_at, 1),
            "windows": self.windows,
            "compare_at": round(self.compare_at, 1),
            "checked": self.checked,
            "compared": list(self.compared),
            "is_partial": self.is_partial,
            "debt": round(self.debt, 4),
        }

    def leave_behind(self, now: float) -> list[Span]:
        """Move what is too far behind to the spans that are caught up with. Returns: spans that are given up."""
        newest = int(now - self.settle)
        if newest - self.until > MAX_LAG_SECONDS:
            self.behind.append((self.until, newest - 1))
            self.until = newest
        kept: list[Span] = []
        given_up: list[Span] = []
        oldest = int(now - MAX_BEHIND_SECONDS)
        for number, (start, end) in enumerate(reversed(self.behind)):
            if number >= MAX_SPANS or end < oldest:
                given_up.append((start, end))
            elif start < oldest:
                given_up.append((start, oldest - 1))
                kept.append((oldest, end))
            else:
                kept.append((start, end))
        self.behind = kept[::-1]
        return given_up

    def next_window(self, now: float) -> Span | None:
        """Return the next window for a first look; None if it has not settled yet."""
        end = self.until + self.width - 1
        return (self.until, end) if end + 1 + self.settle <= now else None

    def due_in(self, now: float) -> float:
        """Return the seconds until the next window has settled."""
        return max(self.until + self.width + self.settle - now, 0.0)

    def skip(self, window: Span) -> None:
        """Leave a window, which the points of this hour do not pay for, to catching up by another quota."""
        self.behind.append(window)
        self.until = window[1] + 1

    def skip_to_rest(self, window: Span) -> None:
        """Leave to the REST search all windows since the latest good comparison, and until the next one."""
        self.is_partial = True
        self.behind.append((min(max(self.checked, window[1] - MAX_BEHIND_WIDTH), window[0]), window[1]))
        self.checked = window[1] + 1

    def next_behind(self) -> Span | None:
        """Return the newest window that is caught up with. It stays in `behind` until `caught_up` is called."""
        if not self.behind:
            return None
        start, end = self.behind[-1]
        return max(start, end - self.behind_width + 1), end

    def caught_up(self, window: Span, total: int) -> None:
        """Take a window, which ends with the newest span, out of what is caught up with."""
        seconds = window[1] - window[0] + 1
        self.behind_width = int(min(max(WANTED_RESULTS * seconds / max(total, 1), MIN_WIDTH), MAX_BEHIND_WIDTH))
        start, _ = self.behind.pop()
        if start < window[0]:
            self.behind.append((start, window[0] - 1))

    def is_too_wide(self, window: Span, total: int) -> bool:
        """Return whether to ask for a narrower window instead, and make the next one narrower."""
        seconds = window[1] - window[0] + 1
        if total <= MAX_RESULTS or seconds <= MIN_WIDTH:
            return False
        narrower = max(min(seconds * WANTED_RESULTS // total, seconds - 1), MIN_WIDTH)
        if window[0] == self.until:
            self.width = narrower
        else:
            self.behind_width = narrower
        return True

    def looked(self, window: Span, total: int) -> None:
        """Take a first look into account: the next window follows it, and is as wide as the rate asks for."""
        seconds = window[1] - window[0] + 1
        self.until, self.windows = window[1] + 1, self.windows + 1
        now_rate = total / seconds
        self.rate = now_rate if not self.rate else self.rate + _SMOOTHING * (now_rate - self.rate)
        self.width = int(min(max(WANTED_RESULTS / max(self.rate, now_rate, 0.1), MIN_WIDTH), MAX_WIDTH))

    def is_thin(self, window: Span, total: int) -> bool:
        """Return whether the window holds far less than usual, so that the index may not have learned all of it."""
        return total < THIN * self.expected(window)

    def expected(self, window: Span) -> float:
        return self.rate * (window[1] - window[0] + 1)

    def is_worth_reading(self, look: int, number: int) -> bool:
        """Return whether to read a window whole at this later look (from 0), whatever its count says."""
        return self.is_sample(number) or self.late[look] >= WORTH_READING

    def is_sample(self, number: int) -> bool:
        """Return whether this window is one of those that measure what later looks add."""
        return number % SAMPLE_EVERY == 0

    def measured(self, look: int, share: float) -> None:
        """Take into account which share of a window's entries a later look added."""
        self.late[look] += _SMOOTHING * 4 * (share - self.late[look])
        if look:
            return
        if self.late[0] > TOO_LATE:
            self.settle = min(self.settle * (1 + self.late[0]), MAX_SETTLE)
        elif self.late[0] < EARLY_ENOUGH:
            self.settle = max(self.settle * 0.97, MIN_SETTLE)

    def probed(self, lag: float, rate: float) -> None:
        """Take into account how old the newest entry of the index is: no window settles sooner.

        Where little is pushed, as in an installation of one's own, its age says nothing of the index. `rate`: pushes a
        second of the last hour.
        """
        if rate >= MIN_PROBED_RATE:
            self.settle = min(max(self.settle, lag + SETTLE_MARGIN), MAX_SETTLE)

    def points_a_second(self) -> float:
        """Return the GraphQL points a second that first looks cost."""
        return self.rate / 100 + 0.5 / max(self.width, 1)

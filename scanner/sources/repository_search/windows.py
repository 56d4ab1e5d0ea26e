"""Plans which push times to search next.

A window is a range of push times that one search covers, in whole seconds since the epoch, both ends included. A "look"
is one of several searches of a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_RESULTS = 1000
"""GitHub shows at most this many results of one search."""
WANTED_RESULTS = 700
"""The width of a window is chosen for about this many results."""
MIN_WIDTH, MAX_WIDTH, FIRST_WIDTH = 1, 20, 5
"""Widths of a window in seconds."""
MAX_BEHIND_WIDTH = 600
"""Maximum width in seconds of a window that was not searched in time."""
MIN_SETTLE, MAX_SETTLE, FIRST_SETTLE = 5.0, 600.0, 60.0
"""Seconds from a window's end to its first search."""
SETTLE_MARGIN = 2.0
"""Seconds that are added to the measured lag of GitHub's search index."""
MIN_PROBED_RATE = 1.0
"""Below this many pushes a second, the age of the search index's newest entry does not show how late the index is."""
LOOKS_AFTER = (120, 900, 3600)
"""Seconds from a window's first search to each later search."""
SAMPLE_EVERY = 8
"""One window in this many is read completely at each later search."""
WORTH_READING = 0.02
"""If repeated searches of windows find at least this share of new repositories on average, they read all results of
every window.
"""
TOO_LATE, EARLY_ENOUGH = 0.05, 0.01
"""If second searches of windows find more than the share TOO_LATE of new repositories, the first search of later
windows waits longer. If they find less than EARLY_ENOUGH, it waits shorter.
"""
SOONER = 0.9
"""Factor by which the wait before a first search shrinks after a second search has found almost nothing new."""
THIN, THIN_DEVIATIONS = 0.7, 3.0
"""A window is thin if it has less than the share THIN of the usual entries, and the difference cannot be chance."""
LONG_PAUSE_SECONDS, LESS_AFTER_PAUSE = 3600, 0.5
"""After a pause longer than LONG_PAUSE_SECONDS, only the share LESS_AFTER_PAUSE of the usual rate is expected."""
SHORT_SHARE = 0.01
"""A window counts as read completely if at most this share of its results is missing."""
NOT_SAMPLED = -1
"""Stands for the number of a window that was not searched in time."""
MAX_LAG_SECONDS = 120.0
"""If the first search of a window is more than this late, the window is put off, so that new pushes come first."""
MAX_BEHIND_SECONDS = 86_400
"""Push times that were not searched for this long are recorded as gaps."""
MAX_SPANS = 100
"""At most this many ranges of push times wait for a late search. Older ones are given up."""
_SMOOTHING, _THIN_SMOOTHING = 0.05, 0.0005
"""Weights of a window in the average that gives the usual rate of pushes: of a normal one, and of a thin one (see
THIN).
"""

Span = tuple[int, int]


@dataclass(slots=True)
class Plan:
    """The state of repository search, stored from poll to poll.

    A window is a range of push times that one search covers.

    Attributes:
        until: All windows up to this second were searched or are in `behind`.
        settle: Seconds from a window's end to its first search.
        learned: The seconds after which GitHub's index probably contains nearly all pushes of a window.
        lag: The age of the index's newest entry in seconds, at the latest measurement.
        rate: The smoothed average number of repositories with a push in one second. 0 before the first window.
        late: For each repeated search, the smoothed average share of results that no earlier search had found.
        behind: Push times that were not searched in time, oldest first.
        behind_width: The width in seconds of the next window that is taken from `behind`.
        behind_rate: Like `rate`, for windows that were searched more than LONG_PAUSE_SECONDS late.
        probe_at: When the age of the index's newest entry is measured next.
        compare_at: When the counts of GraphQL and of the REST search are compared next.
        checked: Push times before this second need no comparison any more.
        compared: The counts of the latest comparison: by GraphQL, then by the REST search.
        is_partial: Whether GraphQL shows only a part of the repositories to this credential.
        debt: Grows by a fraction with each window while GraphQL points are short. At 1, REST reads one window.
    """

    until: int
    width: int = FIRST_WIDTH
    settle: float = FIRST_SETTLE
    learned: float = FIRST_SETTLE
    lag: float = 0.0
    rate: float = 0.0
    late: list[float] = field(default_factory=lambda: [0.0] * len(LOOKS_AFTER))
    behind: list[Span] = field(default_factory=list)
    behind_width: int = FIRST_WIDTH
    behind_rate: float = 0.0
    probe_at: float = 0.0
    windows: int = 0
    compare_at: float = 0.0
    checked: int = 0
    compared: tuple[int, int] = (0, 0)
    is_partial: bool = False
    debt: float = 0.0

    @classmethod
    def from_json(cls, value: Mapping[str, Any], now: float) -> Plan:
        """Return the plan from the stored JSON. If the JSON is empty, return a new plan that begins at `now`."""
        if "until" not in value:
            return cls(until=int(now - FIRST_SETTLE))
        spans = [(int(start), int(end)) for start, end in value["behind"]]
        return cls(**{**value, "behind": spans, "compared": tuple(value["compared"])})

    def to_json(self) -> dict[str, Any]:
        return {
            "until": self.until,
            "width": self.width,
            "settle": round(self.settle, 1),
            "learned": round(self.learned, 1),
            "lag": round(self.lag, 1),
            "rate": round(self.rate, 3),
            "late": [round(share, 4) for share in self.late],
            "behind": [list(span) for span in self.behind],
            "behind_width": self.behind_width,
            "behind_rate": round(self.behind_rate, 3),
            "probe_at": round(self.probe_at, 1),
            "windows": self.windows,
            "compare_at": round(self.compare_at, 1),
            "checked": self.checked,
            "compared": list(self.compared),
            "is_partial": self.is_partial,
            "debt": round(self.debt, 4),
        }

    def leave_behind(self, now: float) -> list[Span]:
        """Move windows that were not searched in time to the list `behind`. Return the ranges that are too old to
        search.
        """
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

    def is_after_pause(self, now: float) -> bool:
        """Return whether the last search was so long ago that the usual rate of pushes may have changed."""
        return now - self.settle - self.until > LONG_PAUSE_SECONDS

    def expect_less(self) -> None:
        """Lower the usual rate of pushes after a pause of the service."""
        self.rate *= LESS_AFTER_PAUSE

    def next_window(self, now: float) -> Span | None:
        """Return the next window to search for the first time, or None if it is too early."""
        end = self.until + self.width - 1
        return (self.until, end) if end + 1 + self.settle <= now else None

    def due_in(self, now: float) -> float:
        """Return the seconds until a window is due to be searched for the first time."""
        return max(self.until + self.width + self.settle - now, 0.0)

    def skip(self, window: Span) -> None:
        """Leave a range of push times to a later search, because too few GraphQL points are left now."""
        self.behind.append(window)
        self.until = window[1] + 1

    def skip_to_rest(self, window: Span) -> None:
        """Let the REST search read this window and all push times since the last comparison with GraphQL."""
        self.is_partial = True
        self.behind.append((min(max(self.checked, window[1] - MAX_BEHIND_WIDTH), window[0]), window[1]))
        self.checked = window[1] + 1

    def next_behind(self) -> Span | None:
        """Return the newest range of push times that was not searched in time, or None if there is none."""
        if not self.behind:
            return None
        start, end = self.behind[-1]
        return max(start, end - self.behind_width + 1), end

    def caught_up(self, window: Span, total: int, now: float) -> None:
        """Remove a window from the list `behind`, because it has been searched.

        The window must be the result of `next_behind`.
        """
        seconds = window[1] - window[0] + 1
        self.behind_width = int(min(max(WANTED_RESULTS * seconds / max(total, 1), MIN_WIDTH), MAX_BEHIND_WIDTH))
        start, _ = self.behind.pop()
        if now - window[1] > LONG_PAUSE_SECONDS:
            is_thin = is_fewer(total, self.expected_behind(window, now))
            before, steps = self.behind_rate or self.rate, seconds / MAX_WIDTH
            self.behind_rate = _smoothed(before, total / seconds, is_thin=is_thin, steps=steps)
        if start < window[0]:
            self.behind.append((start, window[0] - 1))
        else:
            self.behind_rate *= LESS_AFTER_PAUSE  # the next window may be from a time of day with fewer pushes

    def is_too_wide(self, window: Span, total: int) -> bool:
        """Return whether the window has too many results. If so, make the next window narrower."""
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
        """Update the plan after the first search of a window, which found `total` repositories."""
        seconds = window[1] - window[0] + 1
        self.until, self.windows = window[1] + 1, self.windows + 1
        now_rate = total / seconds
        self.rate = _smoothed(self.rate, now_rate, is_thin=self.is_thin(window, total))
        self.width = int(min(max(WANTED_RESULTS / max(self.rate, now_rate, 0.1), MIN_WIDTH), MAX_WIDTH))

    def is_thin(self, window: Span, total: int) -> bool:
        """Return whether a search found far fewer repositories than usual."""
        return is_fewer(total, self.expected(window))

    def expected(self, window: Span) -> float:
        """Return how many repositories the usual rate of pushes predicts for the window."""
        return self.rate * (window[1] - window[0] + 1)

    def expected_behind(self, window: Span, now: float) -> float:
        """Return how many repositories to expect in a window that was not searched in time."""
        is_old = now - window[1] > LONG_PAUSE_SECONDS
        return (self.behind_rate if is_old and self.behind_rate else self.rate) * (window[1] - window[0] + 1)

    def is_worth_reading(self, look: int, number: int) -> bool:
        """Return whether a repeated search must read all results, even if GitHub reports no additional ones.

        Args:
            look: The number of the search of this window, from 0 for the second search.
        """
        return self.is_sample(number) or self.late[look] >= WORTH_READING

    def is_sample(self, number: int) -> bool:
        """Return whether the window is in the sample of windows that are always read again."""
        return number % SAMPLE_EVERY == 0

    def measured(self, look: int, share: float) -> None:
        """Update the plan after a repeated search. `share` is the share of results that no earlier search has found."""
        self.late[look] += _SMOOTHING * 4 * (share - self.late[look])
        if look:
            return
        if self.late[0] > TOO_LATE:
            self.learned = self.settle * (1 + self.late[0])
        elif self.late[0] < EARLY_ENOUGH:
            self.learned *= SOONER
        self._settle_again()

    def probed(self, lag: float, rate: float) -> None:
        """Update the plan with the lag of GitHub's search index.

        Args:
            lag: The age of the index's newest entry in seconds. It is ignored if `rate` is low.
            rate: The number of pushes a second in the last hour.
        """
        if rate >= MIN_PROBED_RATE:
            self.lag = min(lag, MAX_SETTLE)
            self._settle_again()

    def _settle_again(self) -> None:
        # Do not add the lag to `learned`. `learned` shrinks slowly, so searches would wait too long after the index has
        # caught up.
        self.learned = min(max(self.learned, MIN_SETTLE), MAX_SETTLE)
        self.settle = min(max(self.learned, self.lag + SETTLE_MARGIN), MAX_SETTLE)

    def points_a_second(self) -> float:
        """Return how many GraphQL points per second are needed to search every window once."""
        return self.rate / 100 + 0.5 / max(self.width, 1)


def is_fewer(total: int, usual: float) -> bool:
    """Return whether `total` is so far below the usual number that this cannot be chance."""
    return total < min(THIN * usual, usual - THIN_DEVIATIONS * math.sqrt(usual))


def _smoothed(before: float, rate: float, *, is_thin: bool, steps: float = 1.0) -> float:
    """Return the new smoothed rate of pushes after a search."""
    weight = 1 - (1 - (_THIN_SMOOTHING if is_thin else _SMOOTHING)) ** steps
    return before + weight * (rate - before) if before else rate

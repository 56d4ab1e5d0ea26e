"""The share of the firehose that N installations see by polling /events: a seeded simulation.

Arrivals are counted and not created one by one: a window is a range of event numbers, and N pollers have seen the union
of their ranges. While no windows overlap, the result is N times that of one installation. The simulation is for windows
that overlap, with a varying rate, pages that shift while they are read, and polls that jitter or fail.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coverage_model.inputs import Inputs

BIN_SECONDS = 0.1
BINS_A_SECOND = 10
MARGIN_SECONDS = 30
"""Seconds that are simulated before and after the counted time, so that early windows and late polls are complete."""


@dataclass(frozen=True)
class Shares:
    """Share of events seen by 1, 2, … N installations together.

    `staggered`: the polls are spread evenly over the interval. `uncoordinated`: each installation polls at a random
    time. `same_windows`: GitHub shows all installations the same list.
    """

    staggered: tuple[float, ...]
    uncoordinated: tuple[float, ...]
    same_windows: tuple[float, ...]


def one_window_share(inputs: Inputs) -> float:
    """Return the textbook figure: the size of a window divided by the events that arrive between two polls."""
    arriving = inputs.firehose.events_per_second * inputs.public_events.poll_seconds
    return min(1.0, inputs.public_events.window_events / arriving)


def simulate(inputs: Inputs) -> Shares:
    """Return the shares for 1 to `most_installations`. They depend only on the inputs."""
    most = inputs.simulation.most_installations
    # Use separate random generators, so that another number of installations does not change the arrivals.
    arrivals, pollers = random.Random(inputs.simulation.seed), random.Random(inputs.simulation.seed + 1)
    interval = inputs.public_events.poll_seconds
    seen_staggered, seen_uncoordinated, total = [0] * most, [0] * most, 0
    for number in range(inputs.simulation.stretches):
        hour = 24 * number / inputs.simulation.stretches
        stretch = _Stretch(inputs, hour, arrivals, pollers)
        total += stretch.last - stretch.first
        phases = [pollers.random() * interval for _ in range(most)]
        windows: list[tuple[int, int]] = []
        for count in range(1, most + 1):
            windows += stretch.windows(count - 1, phases[count - 1])
            seen_uncoordinated[count - 1] += union_length(windows)
            even = [stretch.windows(poller, poller * interval / count) for poller in range(count)]
            seen_staggered[count - 1] += union_length(window for part in even for window in part)
    staggered = tuple(seen / total for seen in seen_staggered)
    uncoordinated = tuple(seen / total for seen in seen_uncoordinated)
    return Shares(staggered, uncoordinated, (uncoordinated[0],) * most)


class _Stretch:
    """Some minutes of the firehose, and the windows that polls at given moments would show."""

    def __init__(self, inputs: Inputs, hour: float, arrivals: random.Random, pollers: random.Random) -> None:
        self._events = inputs.public_events
        interval = self._events.poll_seconds
        # Use a whole number of polls. Otherwise the phase alone would decide how many polls fall into the stretch.
        self._seconds = max(1, round(inputs.simulation.minutes * 60 / interval)) * interval
        swing = inputs.firehose.daily_swing * math.sin(2 * math.pi * hour / 24)
        rate = inputs.firehose.events_per_second * (1 + swing)
        simulated = self._seconds + interval + 2 * MARGIN_SECONDS
        self._totals = _cumulative(rate, inputs.firehose.burst_swing, simulated, arrivals)
        self.first, self.last = self._number(MARGIN_SECONDS), self._number(MARGIN_SECONDS + self._seconds)
        self._polls = [
            [(pollers.random() * self._events.poll_jitter_seconds, pollers.random()) for _ in self._cycles()]
            for _ in range(inputs.simulation.most_installations)
        ]

    def windows(self, poller: int, phase: float) -> list[tuple[int, int]]:
        """Return the ranges of event numbers that one poller's pages show, within the stretch."""
        ranges: list[tuple[int, int]] = []
        size = self._events.page_events
        for cycle in self._cycles():
            jitter, chance = self._polls[poller][cycle]
            if chance < self._events.failed_polls:
                continue
            for page in range(self._events.pages):
                offset = phase + jitter + page * self._events.seconds_between_pages
                newest = self._number(MARGIN_SECONDS + cycle * self._events.poll_seconds + offset)
                begin, end = newest - (page + 1) * size, newest - page * size
                begin, end = max(begin, self.first), min(end, self.last)
                if begin < end:
                    ranges.append((begin, end))
        return ranges

    def _cycles(self) -> range:
        # A poll shows earlier events. Add one poll after the stretch, because the first may show only events before it.
        return range(round(self._seconds / self._events.poll_seconds) + 1)

    def _number(self, at: float) -> int:
        """Return how many events have arrived by this second."""
        position = at / BIN_SECONDS
        index = int(position)
        low, high = self._totals[index], self._totals[index + 1]
        return low + int((high - low) * (position - index))


def _cumulative(rate: float, swing: float, seconds: float, rng: random.Random) -> list[int]:
    """Return the events that have arrived by the end of each bin. The rate of each second varies by `swing`."""
    totals = [0]
    for _ in range(math.ceil(seconds)):
        floor = math.exp(-rate * (1 + swing * (2 * rng.random() - 1)) * BIN_SECONDS)
        for _ in range(BINS_A_SECOND):
            totals.append(totals[-1] + _poisson(floor, rng))
    return totals


def _poisson(floor: float, rng: random.Random) -> int:
    """Draw a Poisson number by Knuth's method, which needs only uniform numbers and gives the same in every Python
    version.

    `floor` is exp(-mean).
    """
    count, product = 0, rng.random()
    while product > floor:
        count += 1
        product *= rng.random()
    return count


def union_length(ranges: Iterable[Sequence[int]]) -> int:
    """Return how many numbers are in at least one of the half-open ranges."""
    length, reached = 0, -1
    for begin, end in sorted((int(pair[0]), int(pair[1])) for pair in ranges):
        if end > reached:
            length += end - max(begin, reached)
            reached = end
    return length

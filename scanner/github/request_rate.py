"""Limits the request rate for services whose limit GitHub does not publish, for example git.

The rate rises slowly, and is halved when GitHub refuses a request (additive increase, multiplicative decrease).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from scanner.github.errors import RateLimited

MIN_PER_SECOND = 0.2
"""The lowest rate, with which the limiter still notices soon that GitHub accepts more."""
STEP_PER_SECOND = 1.0
"""The rate rises by this many requests per second after each counting period in which it was used up."""
WINDOW_SECONDS = 60.0
USED_UP_SHARE = 0.8
"""The rate rises only if the workers used at least this share of it."""
HALVE_PAUSE_SECONDS = 20.0
"""The rate is halved at most once in this time."""
MIN_OBSERVED_PER_SECOND = 1.0
"""A refusal halves the rate that was observed. A lower observed rate counts as this rate."""
RESERVED_SECONDS, MAX_RESERVED = 0.5, 256
"""A process reserves the request slots of RESERVED_SECONDS at once, but at most MAX_RESERVED."""
UNUSED_SECONDS = 1.0
"""A process reserves time slots for its requests. A slot that is not used within this time is lost."""
MAX_WAIT_SECONDS = 30.0
"""A request waits at most this long for its slot."""
BROKEN_TO_HALVE, BROKEN_SHARE = 5, 0.1
"""The rate is halved if at least this many answers, and this share of all answers, of one counting period break off."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RateBounds:
    """The initial and the highest request rate, in requests per second."""

    start: float
    maximum: float


@dataclass(frozen=True, slots=True)
class RequestRate:
    """The request rate of one credential for one service, which all workers share.

    Times are in seconds since the epoch; 0 means never.

    Attributes:
        per_second: Requests per second that all workers together may send.
        next_slot_at: The time of the next free slot for a request.
        asked: The number of requests sent since `window_began_at`.
        window_began_at: The start of the current counting period of WINDOW_SECONDS.
        measured_per_second: Requests per second that were sent in the latest complete counting period.
        refused_at: When a refusal last lowered the rate.
    """

    credential: str
    resource: str
    per_second: float
    next_slot_at: float = 0.0
    asked: int = 0
    window_began_at: float = 0.0
    measured_per_second: float = 0.0
    refusals: int = 0
    refused_at: float = 0.0


class RateLedger(Protocol):
    """The storage through which workers share a request rate."""

    def update_rate(
        self, first: RequestRate, change: Callable[[RequestRate, float], RequestRate]
    ) -> tuple[RequestRate, RequestRate, float]:
        """Change the stored request rate in one transaction.

        Args:
            first: The rate to store if none is stored yet.
            change: Returns the new rate, given the stored rate and the time of the storage's clock.

        Returns:
            The rate before the change, the rate after it, and the time of the storage's clock.

        Raises:
            Exception: Any exception of the storage.
        """


def reserved(rate: RequestRate, now: float, *, count: int, sent: int, bounds: RateBounds) -> RequestRate:
    """Return the rate after a process has reserved `count` time slots for its requests.

    Args:
        now: The time in seconds since the epoch.
        count: The number of slots to reserve.
        sent: The number of requests that the process has sent since it last changed the stored rate.
    """
    rate = _measured(replace(rate, asked=rate.asked + sent), now, bounds)
    begins = first_slot(rate, now)
    return replace(rate, next_slot_at=begins + count / rate.per_second)


def first_slot(rate: RequestRate, now: float) -> float:
    """Return the time at which the next request may be sent."""
    # A time far in the future means that the clock was set back.
    return rate.next_slot_at if now <= rate.next_slot_at < now + 10 * MAX_WAIT_SECONDS else now


def refused(rate: RequestRate, now: float, *, sent: int) -> RequestRate:
    """Return the lowered request rate after GitHub has refused a request.

    The rate is lowered at most once in HALVE_PAUSE_SECONDS.

    Args:
        now: The time in seconds since the epoch.
        sent: The number of requests that the process has sent since it last changed the stored rate.
    """
    rate = replace(rate, asked=rate.asked + sent, refusals=rate.refusals + 1)
    if 0 <= now - rate.refused_at < HALVE_PAUSE_SECONDS:
        return rate
    seconds = now - rate.window_began_at
    observed = rate.asked / seconds if 1 <= seconds <= 10 * WINDOW_SECONDS else rate.per_second
    used = min(rate.per_second, max(observed, MIN_OBSERVED_PER_SECOND))
    return replace(rate, per_second=max(used / 2, MIN_PER_SECOND), refused_at=now, asked=0, window_began_at=now)


def _measured(rate: RequestRate, now: float, bounds: RateBounds) -> RequestRate:
    """Return the rate within its bounds, raised if nearly all of it was used in the last counting period."""
    rate = replace(rate, per_second=min(max(rate.per_second, MIN_PER_SECOND), bounds.maximum))
    seconds = now - rate.window_began_at
    if 0 <= seconds < WINDOW_SECONDS:
        return rate
    measured = rate.asked / seconds if seconds > 0 else 0.0
    # A period much longer than WINDOW_SECONDS contains idle time, so do not raise the rate.
    is_used_up = seconds < 2 * WINDOW_SECONDS and measured >= USED_UP_SHARE * rate.per_second
    raised = min(rate.per_second + STEP_PER_SECOND, bounds.maximum) if is_used_up else rate.per_second
    return replace(rate, per_second=raised, asked=0, window_began_at=now, measured_per_second=measured)


class RateLimiter:
    """Limits the request rate of one process. Threads can share it."""

    def __init__(
        self,
        credential: str,
        resource: str,
        bounds: RateBounds,
        ledger: RateLedger | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bounds = bounds
        self._ledger = ledger
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._rate = RequestRate(credential, resource, bounds.start)
        self._slot_at, self._left, self._sent = 0.0, 0, 0
        self._broken, self._broken_since, self._sent_since = 0, 0.0, 0

    @property
    def per_second(self) -> float:
        """The request rate that was last read, in requests per second."""
        return self._rate.per_second

    def wait(self) -> bool:
        """Wait until a request may be sent. Return whether it was necessary to wait.

        Raises:
            RateLimited: No request may be sent within MAX_WAIT_SECONDS.
        """
        with self._lock:
            now = self._clock()
            self._forget_unused(now)
            if not self._left:
                self._reserve(now)
            seconds = self._slot_at - now
            if seconds > MAX_WAIT_SECONDS:
                message = f"{self._rate.resource} requests are limited to {self._rate.per_second:.3g} a second"
                raise RateLimited("rate_reserved", message, retry_after=seconds)
            self._slot_at += 1 / self._rate.per_second
            self._left -= 1
            self._sent += 1
            self._sent_since += 1
        if seconds <= 0:
            return False
        self._sleep(seconds)
        return True

    def refuse(self) -> None:
        """Halve the request rate, because GitHub has refused a request."""
        with self._lock:
            sent, self._sent = self._sent, 0
            before, after, _ = self._update(lambda rate, now: refused(rate, now, sent=sent))
            self._left = 0
        if after.per_second < before.per_second:
            _log.warning(
                "GitHub limits %s requests: the rate falls from %.3g to %.3g a second",
                after.resource,
                before.per_second,
                after.per_second,
            )

    def note_broken(self) -> None:
        """Record a response that broke off. Many broken responses halve the request rate."""
        with self._lock:
            now = self._clock()
            if not 0 <= now - self._broken_since < WINDOW_SECONDS:
                self._broken, self._broken_since, self._sent_since = 0, now, 0
            self._broken += 1
            is_refusal = self._broken >= BROKEN_TO_HALVE and self._broken >= BROKEN_SHARE * self._sent_since
            if is_refusal:
                self._broken = 0
        if is_refusal:
            self.refuse()

    def _forget_unused(self, now: float) -> None:
        if self._slot_at - now > 10 * MAX_WAIT_SECONDS:
            self._left = 0  # the clock has jumped back
        late = now - UNUSED_SECONDS - self._slot_at
        if late > 0 and self._left:
            lost = min(self._left, math.ceil(late * self._rate.per_second))
            self._left -= lost
            self._slot_at += lost / self._rate.per_second

    def _reserve(self, now: float) -> None:
        count = min(max(int(self._rate.per_second * RESERVED_SECONDS), 1), MAX_RESERVED)
        sent, self._sent = self._sent, 0

        def change(rate: RequestRate, at: float) -> RequestRate:
            return reserved(rate, at, count=count, sent=sent, bounds=self._bounds)

        before, _, at = self._update(change)
        self._slot_at, self._left = now + first_slot(before, at) - at, count

    def _update(self, change: Callable[[RequestRate, float], RequestRate]) -> tuple[RequestRate, RequestRate, float]:
        before, at = self._rate, self._clock()
        if self._ledger is not None:
            try:
                before, self._rate, at = self._ledger.update_rate(before, change)
            except Exception as err:  # noqa: BLE001 - the storage may raise anything; this process keeps its rate
                _log.warning(
                    "the rate of %s requests is not shared between workers for now: %s",
                    before.resource,
                    type(err).__name__,
                )
            else:
                return before, self._rate, at
        self._rate = change(before, at)
        return before, self._rate, at

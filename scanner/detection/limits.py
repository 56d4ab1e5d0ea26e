"""How much one document may cost, and the meter that counts it; reads nothing itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds per document; whatever lies beyond one is counted in `ScanResult.unread` under the name given here.

    `depth` (`container_depth`): layers of containers and decoded runs inside each other. `expanded_bytes`
    (`expanded_bytes`): all that is decompressed and decoded. `ratio` (`expansion_ratio`): the same against the
    document's size, from `ratio_floor` bytes on. `entries` (`entries`): members, streams and objects. `seconds`
    (`seconds`): time in containers and decoded runs (the document's own bytes are always read to their end).
    `member_bytes` (`member_size`): the largest part held in memory at once; longer text is read in pieces.
    `decoding_steps` (`decoding_steps`): codes and records that are decoded one by one in Python, up to 0.8 µs each.
    """

    depth: int = 10
    expanded_bytes: int = 512 << 20
    ratio: int = 1_000
    ratio_floor: int = 16 << 20
    entries: int = 50_000
    seconds: float = 60.0
    member_bytes: int = 48 << 20
    decoding_steps: int = 5_000_000
    piece_bytes: int = 8 << 20

    def reduced(self, seconds: float | None, expanded_bytes: int | None) -> Limits:
        """Return the same limits with no more seconds, and no more expanded bytes, than these; None: as they are."""
        return replace(
            self,
            seconds=self.seconds if seconds is None else min(max(seconds, 0.0), self.seconds),
            expanded_bytes=self.expanded_bytes if expanded_bytes is None else min(expanded_bytes, self.expanded_bytes),
        )


class LimitReachedError(Exception):
    """A bound of the document is used up; `reason` is its name in `unread`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Meter:
    """Counts what one document has cost so far. Not shared between threads."""

    __slots__ = (
        "_clock",
        "_deadline",
        "_most_bytes",
        "_spent",
        "decoded",
        "entries",
        "expanded",
        "limits",
        "steps",
        "unread",
    )

    def __init__(self, limits: Limits, document_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.expanded = 0
        self.entries = 0
        self.steps = 0
        self.decoded = 0
        self.unread: Counter[str] = Counter()
        self._clock = clock
        self._deadline = clock() + limits.seconds
        self._most_bytes = min(limits.expanded_bytes, max(limits.ratio_floor, document_size * limits.ratio))
        self._spent: str | None = None

    def note(self, reason: str, count: int = 1) -> None:
        """Counts something that was not read."""
        self.unread[reason] += count

    def note_limit(self, stop: LimitReachedError) -> None:
        """Counts a used-up bound once, however many layers it stops."""
        if not self.unread[stop.reason]:
            self.unread[stop.reason] = 1

    def take(self, size: int) -> None:
        """Pays for `size` expanded bytes. Raises LimitReachedError when the document has used up a bound."""
        self.expanded += size
        self.steps += 1
        if self._spent is None:
            if self.expanded > self._most_bytes:
                self._spent = "expanded_bytes" if self._most_bytes == self.limits.expanded_bytes else "expansion_ratio"
            elif self.late:
                self._spent = "seconds"
        if self._spent is not None:
            raise LimitReachedError(self._spent)

    def enter(self) -> None:
        """Pays for one more member, stream or object. Raises LimitReachedError."""
        self.entries += 1
        if self._spent is None and self.entries > self.limits.entries:
            self._spent = "entries"
        self.take(0)

    def work(self, steps: int) -> None:
        """Pay for `steps` codes or records decoded one by one in Python. Raises LimitReachedError."""
        self.decoded += steps
        if self._spent is None and self.decoded > self.limits.decoding_steps:
            self._spent = "decoding_steps"
        self.take(0)

    @property
    def late(self) -> bool:
        """The document's time is used up."""
        return self._clock() > self._deadline

    @property
    def room(self) -> int:
        """Expanded bytes that may still be taken."""
        return max(0, self._most_bytes - self.expanded)

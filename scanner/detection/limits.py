"""Limits on the cost of scanning one document, and the meter that counts the cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from scanner.detection.patterns.token_formats import has_right_checksum


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the cost of scanning one document. In brackets: the reason under which unread parts are counted.

    Attributes:
        depth: Nested layers of archives, compression and long base64 or hex texts (`container_depth`).
        expanded_bytes: Bytes that are decompressed and decoded (`expanded_bytes`).
        ratio: The same limit as a multiple of the document's size (`expansion_ratio`). The first `ratio_floor` bytes do
            not count.
        entries: Files in archives, compressed streams, and git objects (`entries`).
        seconds: Seconds for opening and decoding (`seconds`).
        member_bytes: The size of the largest part of a container in memory (`member_size`).
        piece_bytes: Longer text is read in pieces of this many bytes.
        decoding_steps: Codes and records that are decoded in Python, up to 0.8 µs each (`decoding_steps`).
        work: Steps of about ten nanoseconds (`work`). A small document may take only `work_floor` steps, plus
            `work_per_byte` steps for each of its bytes.
        findings: Different tokens (`findings_over_limit`).
        repeats: Further occurrences of tokens that were found before (`repeats_over_limit`).
        opens: Whether to open archives in base64 or hex. If not, the token `UNOPENED` is returned in their place.
    """

    depth: int = 10
    expanded_bytes: int = 512 << 20
    ratio: int = 1_000
    ratio_floor: int = 16 << 20
    entries: int = 50_000
    seconds: float = 8.0
    member_bytes: int = 48 << 20
    decoding_steps: int = 5_000_000
    piece_bytes: int = 8 << 20
    work: int = 400 << 20
    work_floor: int = 20 << 20
    work_per_byte: int = 4
    findings: int = 10_000
    repeats: int = 10_000
    opens: bool = True

    def reduced(self, seconds: float | None, expanded_bytes: int | None) -> Limits:
        """Return a copy with at most `seconds` and `expanded_bytes`. None leaves a limit as it is."""
        return replace(
            self,
            seconds=self.seconds if seconds is None else min(max(seconds, 0.0), self.seconds),
            expanded_bytes=self.expanded_bytes if expanded_bytes is None else min(expanded_bytes, self.expanded_bytes),
        )


STEPS_PER_RUN = 1_000
"""Every decoded text counts as at least this many steps of work."""


class LimitReachedError(Exception):
    """A limit on the cost of scanning a document is reached. `reason` names the limit, for example `entries`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Meter:
    """The counter of the cost of scanning one document. Its methods raise LimitReachedError at a limit.

    Threads must not share a meter.
    """

    __slots__ = (
        *("_clock", "_deadline", "_most_bytes", "_most_work", "_repeats", "_spent", "_tokens"),
        *("decoded", "entries", "expanded", "limits", "steps", "unread", "work"),
    )

    def __init__(self, limits: Limits, document_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.expanded = 0
        self.entries = 0
        self.steps = 0
        self.decoded = 0
        self.work = 0
        self.unread: Counter[str] = Counter()
        self._clock = clock
        self._deadline = clock() + limits.seconds
        self._most_bytes = min(limits.expanded_bytes, max(limits.ratio_floor, document_size * limits.ratio))
        self._most_work = min(limits.work, limits.work_floor + document_size * limits.work_per_byte)
        self._spent: str | None = None
        self._tokens: set[bytes] = set()
        self._repeats = 0

    def note(self, reason: str, count: int = 1) -> None:
        """Count `count` parts of the document as unread, under `reason`."""
        self.unread[reason] += count

    def note_limit(self, stop: LimitReachedError) -> None:
        """Count an unread part of the document, under the reason of the limit that was reached."""
        if not self.unread[stop.reason]:
            self.unread[stop.reason] = 1

    def take(self, size: int) -> None:
        """Count `size` bytes that were read from an archive or a compressed stream."""
        self._most_work = min(self.limits.work, self._most_work + size * self.limits.work_per_byte)
        self._expand(size)

    def decode(self, size: int) -> None:
        """Count `size` bytes that were decoded from base64 or hex."""
        self._expand(size)
        self.spend(STEPS_PER_RUN + size)

    def _expand(self, size: int) -> None:
        self.expanded += size
        self.steps += 1
        if self._spent is None:
            if self.expanded > self._most_bytes:
                self._spent = "expanded_bytes" if self._most_bytes == self.limits.expanded_bytes else "expansion_ratio"
            elif self.late:
                self._spent = "seconds"
        if self._spent is not None:
            raise LimitReachedError(self._spent)

    def spend(self, steps: int) -> None:
        """Count steps of work (matching and decoding), of about ten nanoseconds each."""
        self.work += steps
        if self.work > self._most_work:
            raise LimitReachedError("work")

    def admits(self, token: bytes) -> bool:
        """Count one more occurrence of `token`, and return whether the caller may keep it.

        A string with a wrong checksum is not kept and not counted.
        """
        if not has_right_checksum(token):
            return False
        if token in self._tokens:
            if self._repeats < self.limits.repeats:
                self._repeats += 1
                return True
            self.note("repeats_over_limit")
        elif len(self._tokens) < self.limits.findings:
            self._tokens.add(token)
            return True
        else:
            self.note("findings_over_limit")
        return False

    @property
    def full(self) -> bool:
        """Whether the limit on the number of different tokens is reached."""
        return len(self._tokens) >= self.limits.findings

    def turn_away(self, tokens: list[bytes]) -> None:
        """Count tokens as unread, because they exceed the limit on the number of different tokens."""
        known = sum(token in self._tokens for token in tokens)
        for reason, count in (("repeats_over_limit", known), ("findings_over_limit", len(tokens) - known)):
            if count:
                self.note(reason, count)

    def enter(self) -> None:
        """Count one more opened content: a compressed stream, a git object or a file in an archive."""
        self.entries += 1
        if self._spent is None and self.entries > self.limits.entries:
            self._spent = "entries"
        self.take(0)

    def step(self, steps: int) -> None:
        """Count `steps` codes or records that are decoded one by one in Python."""
        self.decoded += steps
        if self._spent is None and self.decoded > self.limits.decoding_steps:
            self._spent = "decoding_steps"
        self.take(0)

    @property
    def late(self) -> bool:
        """Whether the document has used up its limit of seconds."""
        return self._clock() > self._deadline

    @property
    def room(self) -> int:
        """The number of bytes that may still be decompressed and decoded."""
        return max(0, self._most_bytes - self.expanded)

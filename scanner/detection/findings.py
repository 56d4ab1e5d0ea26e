"""What the engine passes on inside itself: tokens still raw, with their spans. Never leaves the detection package."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

PLAIN = ("plain",)


class Finding(NamedTuple):
    """One token and where it stands.

    `start` and `end` span everything that spells it, in the content being read. `encoding` goes from the outermost
    encoding to the innermost. `members` is the way into containers, outermost first; when it is not empty, `line` and
    `column` stand in the innermost member, else they are 0 until `located()`.
    """

    token: bytes
    start: int
    end: int
    encoding: tuple[str, ...] = PLAIN
    members: tuple[str, ...] = ()
    line: int = 0
    column: int = 0


class Segments:
    """Maps offsets in a text that was put together from pieces back to where the pieces stood."""

    def __init__(self, pieces: Iterable[tuple[int, int]]) -> None:
        """`pieces` are (start, end) spans of the original, in order."""
        self._starts: list[int] = []
        self._sums: list[int] = []
        total = 0
        for start, end in pieces:
            self._starts.append(start)
            self._sums.append(total)
            total += end - start

    def origin(self, offset: int) -> int:
        """The original's offset of the byte that now stands at `offset`."""
        if not self._starts:
            return offset
        at = max(0, bisect_right(self._sums, offset) - 1)
        return self._starts[at] + offset - self._sums[at]


def wrapped(encoding: tuple[str, ...], inner: tuple[str, ...]) -> tuple[str, ...]:
    """The chain of an encoding around another; `plain` is only ever named alone."""
    return encoding if inner == PLAIN else encoding + inner


def located(
    findings: Sequence[Finding], content: bytes, lines_before: int = 0, column_before: int = 0
) -> Iterator[Finding]:
    """The findings with line and column (from 1, in bytes), in the order of their starts; linear in `content`.

    `lines_before` and `column_before` are the newlines, and the bytes after the last of them, in front of `content`.
    """
    line, at, line_start = lines_before + 1, 0, -column_before
    for finding in sorted(findings, key=lambda found: found.start):
        if finding.line:
            yield finding
            continue
        newlines = content.count(b"\n", at, finding.start)
        if newlines:
            line += newlines
            line_start = content.rfind(b"\n", at, finding.start) + 1
        at = max(at, finding.start)
        yield finding._replace(line=line, column=finding.start - line_start + 1)


def distinct(findings: list[Finding]) -> list[Finding]:
    """One finding per token and place: where spans of the same token overlap, the simplest encoding stays."""
    if len(findings) < 2:
        return findings
    ordered = sorted(findings, key=lambda found: (found.members, found.token, found.start, len(found.encoding)))
    kept: list[Finding] = []
    for finding in ordered:
        last = kept[-1] if kept else None
        if (
            last is not None
            and (last.members, last.token) == (finding.members, finding.token)
            and (finding.start < last.end if not finding.members else _same_spot(last, finding))
        ):
            if _simplicity(finding) < _simplicity(last):
                kept[-1] = finding
            continue
        kept.append(finding)
    return sorted(kept, key=lambda found: found.start)


def _same_spot(one: Finding, other: Finding) -> bool:
    return (one.line, one.column) == (other.line, other.column)


def _simplicity(finding: Finding) -> tuple[int, int, int]:
    return (len(finding.encoding), finding.encoding != PLAIN, finding.start)

"""Raw tokens with their positions in the content, for `scanner.detection` and `scanner.isolation` only."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

PLAIN = ("plain",)


class Finding(NamedTuple):
    """A raw token that was found, and its position.

    Attributes:
        start: The offset of the encoded token's first byte.
        end: The offset after the encoded token's last byte.
        encoding: The encodings of the token, outermost first.
        members: The path through archives, outermost first.
        line: From 1; 0 until `located()` sets it.
        column: In bytes, from 1; 0 until `located()` sets it.
    """

    token: bytes
    start: int
    end: int
    encoding: tuple[str, ...] = PLAIN
    members: tuple[str, ...] = ()
    line: int = 0
    column: int = 0


class Segments:
    """Converts offsets in a joined text into offsets in the original text."""

    def __init__(self, pieces: Iterable[tuple[int, int]]) -> None:
        """Prepare to convert offsets, given the start and end of each joined piece in the original text."""
        self._starts: list[int] = []
        self._sums: list[int] = []
        total = 0
        for start, end in pieces:
            self._starts.append(start)
            self._sums.append(total)
            total += end - start

    def origin(self, offset: int) -> int:
        """Return the offset in the original text for `offset` in the joined text."""
        if not self._starts:
            return offset
        at = max(0, bisect_right(self._sums, offset) - 1)
        return self._starts[at] + offset - self._sums[at]


def wrapped(encoding: tuple[str, ...], inner: tuple[str, ...]) -> tuple[str, ...]:
    """Return the encodings of a token in an encoded text, outermost first, for example `("base64", "gzip")`."""
    return encoding if inner == PLAIN else encoding + inner


def located(
    findings: Sequence[Finding], content: bytes, lines_before: int = 0, column_before: int = 0
) -> Iterator[Finding]:
    """Yield the findings with their lines and columns set, in the order of their offsets.

    Args:
        content: A text, or a part of a larger text.
        lines_before: The number of line feeds before `content`.
        column_before: The number of bytes before `content` in its first line.
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
    """Return the findings without duplicates. If two equal tokens overlap, keep the simpler encoding."""
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


def _simplicity(finding: Finding) -> tuple[int, int, int, int]:
    return (len(finding.encoding), finding.encoding != PLAIN, finding.end - finding.start, finding.start)

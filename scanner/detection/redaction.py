"""Removal of tokens from strings before they are stored, logged or mailed. Archives are not opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from scanner.detection.limits import LimitReachedError, Limits, Meter
from scanner.detection.patterns.matcher import RUN_STRIDE, long_run_spots, may_hold
from scanner.detection.patterns.token_formats import hint_of

_LIMITS = Limits(
    depth=10,
    expanded_bytes=4 << 20,
    seconds=3600.0,
    member_bytes=1 << 20,
    work=10 << 20,
    work_floor=10 << 20,
    findings=1_000,
    opens=False,
)
"""The limits on the work for one text: about 0.1 s. They count steps, so that they do not depend on the machine."""

_MAX_ROUNDS = 8
"""A text is masked again until nothing changes, but at most this many times."""

_TEXTS_AT_ONCE = 100
"""The number of texts that are searched together."""
_BETWEEN_TEXTS = "\0" * RUN_STRIDE
"""A separator between texts, long enough to end every long base64 text."""
_STEPS_A_TEXT = 6_000
"""Masking one of many texts counts as this many steps of work (60 µs), in addition to the steps for its content."""

_BLOCK = 64 << 10
_OVERLAP = 8 << 10
"""The number of bytes by which two blocks of a text overlap. An encoded token is shorter than that."""

_REST_OF_RUN = re.compile(rb"(?:[\r\n]*+[0-9A-Za-z+/_=-]++)*+")
_WITHHELD = "[withheld: it could not be freed of tokens]"
_WITHHELD_RUN = b"[withheld]"


def redact(text: str) -> str:
    """Return `text` with every token, plain or encoded, replaced by its first and last characters.

    Text that cannot be searched is replaced by `[withheld]`. Never raises an exception.
    """
    raw = text.encode("utf-8", "surrogatepass")
    return text if _is_clean(raw) else _redacted(text, raw, None)


class SharedRedaction:
    """Redacts tokens in many texts, with a limit of 0.1 s of work for all texts together.

    When the limit is reached, every further text that may contain a token is replaced by `[withheld]`.
    """

    def __init__(self) -> None:
        self._meter = Meter(_LIMITS, 0)

    def redact(self, text: str) -> str:
        """Return the text with every token replaced by its first and last characters."""
        raw = text.encode("utf-8", "surrogatepass")
        if _is_clean(raw):
            return text
        try:
            self._meter.spend(_STEPS_A_TEXT)
        except LimitReachedError as stop:
            self._meter.note_limit(stop)
        return _WITHHELD if self._meter.unread else _redacted(text, raw, self._meter)

    def redact_all(self, texts: Sequence[str]) -> list[str]:
        """Return the texts with every token replaced. This is faster than one call per text."""
        redacted: list[str] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            some = texts[start : start + _TEXTS_AT_ONCE]
            are_clean = _is_clean(_BETWEEN_TEXTS.join(some).encode("utf-8", "surrogatepass"))
            redacted += some if are_clean else map(self.redact, some)
        return redacted


def _is_clean(raw: bytes) -> bool:
    return not may_hold(raw) and not long_run_spots(raw)


def _redacted(text: str, raw: bytes, meter: Meter | None) -> str:
    """Return the text, whose bytes are `raw`, with every token replaced."""
    for round_number in range(_MAX_ROUNDS):
        masked = _masked(raw, meter or Meter(_LIMITS, 0))
        if masked == raw:
            return raw.decode("utf-8", "surrogatepass") if round_number else text
        raw = masked
    return _WITHHELD


def _masked(raw: bytes, meter: Meter) -> bytes:
    pieces: list[bytes] = []
    at = 0
    for start, end, instead in _spans(raw, meter):
        start, end = _whole_characters(raw, start, end)
        if start >= at:
            pieces += (raw[at:start], instead)
        at = max(at, end)
    pieces.append(raw[at:])
    return b"".join(pieces)


def _spans(raw: bytes, meter: Meter) -> Iterator[tuple[int, int, bytes]]:
    """Yield the start, end and replacement of each token or unread part of the text. The ranges may overlap."""
    from scanner.detection.engine import UNOPENED, text_findings  # most texts are clean and do not need the detector

    covered = 0
    for begin in range(0, len(raw), _BLOCK):
        if begin + _BLOCK <= covered:
            continue  # this block is already replaced
        block = raw[begin : begin + _BLOCK + _OVERLAP]
        found = text_findings(block, meter)
        if meter.unread:
            yield begin, len(raw), _WITHHELD_RUN
            return
        for finding in sorted(found, key=lambda finding: (finding.start, -finding.end)):
            if finding.start < _BLOCK:
                start, end = begin + finding.start, begin + finding.end
                if finding.token != UNOPENED:
                    yield start, end, hint_of(finding.token).encode()
                elif (rest := _REST_OF_RUN.match(raw, end)) is not None:
                    covered = max(covered, rest.end())
                    yield start, rest.end(), _WITHHELD_RUN


def _whole_characters(raw: bytes, start: int, end: int) -> tuple[int, int]:
    """Widen a range of bytes so that it does not split a UTF-8 character."""
    while start and raw[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(raw) and raw[end] & 0xC0 == 0x80:
        end += 1
    return start, end

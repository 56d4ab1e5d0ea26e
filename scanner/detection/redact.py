"""Takes tokens out of strings that are about to be stored, logged or mailed."""

from __future__ import annotations

from scanner.detection.digests import hint_of
from scanner.detection.engine import text_findings
from scanner.detection.limits import Limits, Meter
from scanner.detection.matcher import long_run_spots, may_hold

_LIMITS = Limits(depth=10, expanded_bytes=8 << 20, seconds=2.0, member_bytes=4 << 20)
_MOST_ROUNDS = 8
_WITHHELD = "[withheld: it could not be freed of tokens]"


def redact(text: str) -> str:
    """`text` with every token in it, in any spelling that the detector reads in text, replaced by its hint.

    Anything else is left as it is, lone surrogates too. Never raises; a second time changes nothing.
    """
    raw = text.encode("utf-8", "surrogatepass")
    if not may_hold(raw) and not long_run_spots(raw):
        return text
    for round_number in range(_MOST_ROUNDS):
        masked = _masked(raw)
        if masked == raw:
            return raw.decode("utf-8", "surrogatepass") if round_number else text
        raw = masked
    return _WITHHELD


def _masked(raw: bytes) -> bytes:
    found = sorted(text_findings(raw, Meter(_LIMITS, len(raw))), key=lambda finding: (finding.start, -finding.end))
    pieces: list[bytes] = []
    at = 0
    for finding in found:
        start, end = _whole_characters(raw, finding.start, finding.end)
        if start >= at:
            pieces += (raw[at:start], hint_of(finding.token).encode())
        at = max(at, end)
    pieces.append(raw[at:])
    return b"".join(pieces)


def _whole_characters(raw: bytes, start: int, end: int) -> tuple[int, int]:
    """The span, widened so that it cuts no UTF-8 sequence."""
    while start and raw[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(raw) and raw[end] & 0xC0 == 0x80:
        end += 1
    return start, end

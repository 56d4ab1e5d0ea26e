"""From what the detector says of a document to the row that names it as not read whole."""

from __future__ import annotations

from collections.abc import Sequence

from scanner.detection import Candidate, Place, ScanResult
from scanner.detection.detector import redacted_place
from scanner.records.unread_contents import NotRead
from scanner.response.places import candidate_to_json


def not_read(result: ScanResult, place: Place, size: int) -> NotRead | None:
    """Return what to record of a document of `size` bytes, or None if all of it was read."""
    if not result.content_digest:
        return None
    return not_read_object(tuple(sorted(result.unread)), result.content_digest, size, place)


def not_read_object(reasons: Sequence[str], digest: str, size: int, place: Place) -> NotRead:
    """Return what to record of a document of `size` bytes that was not read, for these reasons.

    Args:
        digest: The document's SHA-256 in hex.
    """
    # A candidate without a token: places have one form in JSON.
    written = candidate_to_json(Candidate("", "", redacted_place(place)))["place"]
    return NotRead(tuple(reasons), digest, size, written)

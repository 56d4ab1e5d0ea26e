"""From what the detector says of a document to the row that names it as not read whole."""

from __future__ import annotations

from scanner.detection import Candidate, Place, ScanResult
from scanner.detection.detector import redacted_place
from scanner.records.unread_contents import NotRead
from scanner.response.places import candidate_to_json


def not_read(result: ScanResult, place: Place, size: int) -> NotRead | None:
    """Return what to record of a document of `size` bytes, or None if all of it was read."""
    if not result.content_digest:
        return None
    # A candidate without a token: places have one form in JSON.
    written = candidate_to_json(Candidate("", "", redacted_place(place)))["place"]
    return NotRead(tuple(sorted(result.unread)), result.content_digest, size, written)

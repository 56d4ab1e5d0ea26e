"""Records documents that were not read completely, for operators."""

from __future__ import annotations

from collections.abc import Sequence

from scanner.detection import Candidate, Place, ScanResult
from scanner.detection.detector import redacted_place
from scanner.records.unread_contents import NotRead
from scanner.response.places import candidate_to_json


def not_read(result: ScanResult, place: Place, size: int) -> NotRead | None:
    """Return the record of an incompletely read document of `size` bytes. Return None if all of it was read."""
    if not result.content_digest:
        return None
    return not_read_object(tuple(sorted(result.unread)), result.content_digest, size, place)


def not_read_object(reasons: Sequence[str], digest: str, size: int, place: Place) -> NotRead:
    """Return the record of a document that was not read completely.

    Args:
        digest: The document's SHA-256 in hex; empty if not known.
        place: Where the document was found. It does not have to be redacted.
    """
    # Store the place in the same JSON format as everywhere else. That format needs a candidate, so use an empty one.
    written = candidate_to_json(Candidate("", "", redacted_place(place)))["place"]
    return NotRead(tuple(reasons), digest, size, written)

"""Hashes of audit entries: SHA-256 over the previous entry's hash, the id and the hash of the content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

FIRST_HASH = "0" * 64
"""The value that stands for the previous hash in the first entry of the chain."""
_MAX_EXACT_INTEGER = 2**53
"""Databases may return a larger integer with other digits, because it is not exact as a double."""


def entry_hash(entry: Mapping[str, Any]) -> str:
    """Return the hash of an audit entry, given its columns by name. The column `at` must have a time zone."""
    return chained_hash(entry["previous_hash"], entry["id"], content_hash(entry))


def content_hash(entry: Mapping[str, Any]) -> str:
    """Return the hash of an audit entry's columns, without its id and the previous hash.

    The column `at` must have a time zone.
    """
    content = {
        "at": entry["at"].astimezone(UTC).isoformat(timespec="microseconds"),
        "who": entry["who"],
        "what": entry["what"],
        "incident_id": entry["incident_id"].hex if entry["incident_id"] else None,
        "evidence": _canonical(entry["evidence"]),
        "nonce": entry["nonce"],
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def chained_hash(previous_hash: str, entry_id: int, content: str) -> str:
    """Return the hash of an audit entry, given the previous entry's hash and the result of `content_hash`.

    The database function `audit_append` computes the same hash.
    """
    return hashlib.sha256(f"{previous_hash}:{entry_id}:{content}".encode()).hexdigest()


def _canonical(value: Any) -> Any:
    """Return the JSON value with each number in one standard form."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if abs(value) <= _MAX_EXACT_INTEGER:
        return int(value) if value == int(value) else value
    return repr(float(value))

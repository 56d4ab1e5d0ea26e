"""Data for tests of the HTTP token store's client, for example a valid record."""

from __future__ import annotations

from typing import Any

URL = "https://tokens.example"
DIGEST, OTHER = "a" * 64, "b" * 64


GOOD: dict[str, Any] = {
    "id": 7,
    "digest": DIGEST,
    "name": "ci",
    "hint": "r8_Ab1…xyz9",
    "account": {"id": 12, "name": "Ana", "recipients": ["ana@example.com", "ana@example.com", "ben@example.com"]},
    "created_at": "2026-01-01T00:00:00Z",
    "last_used_at": "2026-01-02T01:00:00+01:00",
    "disabled_at": None,
    "protected": False,
    "something_new": {"x": 1},
}

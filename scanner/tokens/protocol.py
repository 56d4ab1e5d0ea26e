"""What the rest of the house knows of a token store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


class StoreUnavailable(Exception):
    """The token store did not answer. Never to be taken for "unknown"."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as its store describes it. Times are aware; `recipients` are mail addresses, possibly none."""

    id: str
    digest: str
    name: str
    hint: str
    account_id: str | None
    account_name: str | None
    recipients: tuple[str, ...]
    created_at: datetime | None
    last_used_at: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    is_protected: bool

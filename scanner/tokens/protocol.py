"""What the rest of the house knows of a token store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol


class StoreUnavailable(Exception):
    """The token store did not answer, or not so that it can be used. Never to be taken for "unknown"."""


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


@dataclass(frozen=True, slots=True)
class LookUp:
    """Records by digest. A digest that is in neither is unknown to the store; `not_checked` has to be asked again.

    `complaint`: what was wrong with the answer, where a part of it could be used.
    """

    records: Mapping[str, TokenRecord] = field(default_factory=dict)
    not_checked: frozenset[str] = frozenset()
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Disabled:
    """What came of a disable. `key`: of the call that disabled the token, by which ours is told from another's.

    `observed` and `protected`: it was not made, by a decision of the operator's; no store answers so.
    """

    result: Literal["disabled", "already_disabled", "unknown", "observed", "protected"]
    disabled_at: datetime | None = None
    key: str | None = None


class RemoteStore(Protocol):
    """A store that is not our database: it cannot join our transactions, so calls are recorded before they are made."""

    def look_up(self, digests: Collection[str]) -> LookUp:
        """What the store knows of these digests. StoreUnavailable."""

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        """Disable the token; the same key again changes nothing and gives the same answer. StoreUnavailable."""

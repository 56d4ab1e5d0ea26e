"""The interface of token stores."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from scanner.records.states import Decision


class StoreUnavailable(Exception):
    """The token store did not answer, or its answer cannot be used."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What a token store knows about a token. `recipients` are the mail addresses to notify."""

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
    """The answer of a token store about some digests. A missing digest is unknown to the store.

    `warning` says which part of the answer was unusable. It is "" if all of it was usable.
    """

    records: Mapping[str, TokenRecord] = field(default_factory=dict)
    not_checked: frozenset[str] = frozenset()
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Disabled:
    """The result of disabling a token.

    Attributes:
        key: The idempotency key of the call that disabled the token.
        result: The store's answer: `disabled`, `already_disabled` or `unknown`. If the operator's policy prevented the
            call: `observed` or `protected`.
    """

    result: Decision
    disabled_at: datetime | None = None
    key: str | None = None


class TokenStore(Protocol):
    """The interface that all token stores share."""

    def look_up(self, digests: Collection[str]) -> LookUp:
        """Return what the token store knows about the tokens with these digests.

        Raises:
            StoreUnavailable: The store did not answer, or its answer cannot be used.
        """

    def close(self) -> None:
        """Close the connections that this object has opened."""


class RemoteStore(Protocol):
    """A token store outside r8scan's database, whose calls cannot be part of a transaction."""

    def look_up(self, digests: Collection[str]) -> LookUp:
        """Return what the token store knows about the tokens with these digests."""

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        """Disable the token with this digest.

        A repeated call with the same key changes nothing and returns the same answer.

        Raises:
            StoreUnavailable: The token store did not answer, or its answer cannot be used.
        """

    def register_canary(self, digest: str, *, hint: str) -> None:
        """Add a test token without an owner or rights to the token store. A repeated call changes nothing.

        Raises:
            StoreUnavailable: The store refused the token, or did not answer.
        """

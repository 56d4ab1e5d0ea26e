"""The interface of a token store. `scanner.tokens.sql` implements it by SQL tables, `scanner.tokens.http` by HTTP."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from scanner.records.states import Decision


class StoreUnavailable(Exception):
    """The token store did not answer, or its answer cannot be used. Never treat this as the answer "unknown"."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as its store describes it. Times have a time zone; `recipients` are mail addresses and may be empty."""

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
    """The answer to a look-up. A digest that is neither in `records` nor in `not_checked` is unknown to the store.

    `warning` says which part of the answer was unusable. It is empty if the whole answer was usable.
    """

    records: Mapping[str, TokenRecord] = field(default_factory=dict)
    not_checked: frozenset[str] = frozenset()
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Disabled:
    """The result of a disable. `key` is the idempotency key of the call that disabled the token.

    A store answers `disabled`, `already_disabled` or `unknown`. `observed` and `protected` mean that r8scan did not
    call the store, because of the operator's policy.
    """

    result: Decision
    disabled_at: datetime | None = None
    key: str | None = None


class TokenStore(Protocol):
    """The interface that both token stores share. `scanner.response.store_access` disables tokens in either store."""

    def look_up(self, digests: Collection[str]) -> LookUp:
        """Look up the digests.

        Raises:
            StoreUnavailable: The store did not answer, or its answer cannot be used. The SQL store raises the
                database's errors instead.
        """

    def close(self) -> None:
        """Close the connections that the store opened itself."""


class RemoteStore(Protocol):
    """A token store outside r8scan's database.

    It cannot join a transaction, so r8scan records each disable before it calls the store.
    """

    def look_up(self, digests: Collection[str]) -> LookUp:
        """Look up the digests, as `TokenStore.look_up` does."""

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        """Disable the token. A repeated call with the same key changes nothing and returns the same answer.

        Raises:
            StoreUnavailable: The store did not answer, or its answer cannot be used.
        """

    def register_canary(self, digest: str, *, hint: str) -> None:
        """Add a live token without an owner or rights, to test whether it is found and disabled.

        A repeated call changes nothing.

        Raises:
            StoreUnavailable: The store refused the token, or did not answer.
        """

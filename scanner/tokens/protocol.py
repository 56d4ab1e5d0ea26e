"""The interface of a token store: SQL tables (`scanner.tokens.sql`) or a vendor's HTTP API (`scanner.tokens.http`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from scanner.records.states import Decision


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

    A store answers `disabled`, `already_disabled` or `unknown`. `observed` and `protected` mean that the call was not
    made, by the operator's decision.
    """

    result: Decision
    disabled_at: datetime | None = None
    key: str | None = None


class TokenStore(Protocol):
    """A token store of either kind. How a token is disabled there, only `scanner.response.store_access` knows."""

    def look_up(self, digests: Collection[str]) -> LookUp:
        """Return what the store knows of these digests.

        Raises:
            StoreUnavailable: the store did not answer, or its answer cannot be used. The SQL store raises the
                database's own errors instead.
        """

    def close(self) -> None:
        """Close the connections that are the store's own."""


class RemoteStore(Protocol):
    """A token store outside our database. It cannot join a transaction, so each disable is recorded before its call."""

    def look_up(self, digests: Collection[str]) -> LookUp:
        """Return what the store knows of these digests, as `TokenStore.look_up` does."""

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        """Disable the token. A repeated call with the same key changes nothing and returns the same answer.

        Raises:
            StoreUnavailable: the store did not answer, or its answer cannot be used.
        """

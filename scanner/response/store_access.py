"""Access to the token store, with the same functions for the SQL token store and for a remote one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import ColumnElement, SQLColumnExpression, select
from sqlalchemy.orm import Session

from scanner.records.database import Database
from scanner.records.models import Incident, db_now
from scanner.records.states import Decision, IncidentState
from scanner.tokens import sql
from scanner.tokens.protocol import LookUp, RemoteStore, StoreUnavailable, TokenRecord
from scanner.tokens.sql import SqlStore

SETTLING_SECONDS = 120
"""The token store's answer may be outdated for tokens that r8scan disabled less than this long ago."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TakenAction:
    """What was done about a token.

    Attributes:
        action: The value for `Incident.action`.
        disabled_at: When the token was disabled, by r8scan or by others. None if it was not disabled or the time is
            unknown.
    """

    action: Decision
    disabled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LiveToken:
    """A token that r8scan left enabled at its last decision.

    If `even_protected` is False, the token does not count as live while it is protected.
    """

    digest: str
    even_protected: bool


class StoreAccess(Protocol):
    """The steps of responding to found tokens that differ between the SQL token store and a remote one."""

    def ask(self, digests: Callable[[], Collection[str]]) -> LookUp | None:
        """Look the tokens up in a remote token store before the transaction begins.

        Args:
            digests: Returns the digests to look up.

        Returns:
            The answer to pass to `look_up`. None for the SQL token store. If the remote store is unavailable, the
            answer lists all digests as not checked.
        """

    def known(self, database: Database, digests: Collection[str]) -> Collection[str] | None:
        """Return which of the digests the token store knows, or None if a remote token store is unavailable.

        If the database is unavailable, its error is raised.
        """

    def look_up(self, session: Session, digests: Collection[str], asked: LookUp | None) -> LookUp:
        """Return what the token store knows about the tokens, and lock their database rows.

        Args:
            session: The writing transaction.
        """

    def disable(self, session: Session, reasons: Mapping[str, str]) -> dict[str, TakenAction]:
        """Disable tokens in the SQL token store, or plan to disable them in a remote one.

        Args:
            session: The writing transaction.

        Returns:
            The action taken for each digest.
        """

    def live_only(
        self, digest: SQLColumnExpression[str], *, even_protected: ColumnElement[bool]
    ) -> tuple[ColumnElement[bool], ...]:
        """Return SQL conditions for tokens that still work. For a remote token store, there are no conditions.

        Args:
            even_protected: An SQL condition for tokens that count as live even while they are protected.
        """

    def confirm_live(self, tokens: Collection[LiveToken]) -> Collection[LiveToken]:
        """Return which of the tokens still work. Tokens that cannot be checked are left out.

        `tokens` are the tokens that were selected with the conditions of `live_only`.
        """

    def register_canary(self, database: Database, digest: str, hint: str) -> None:
        """Add a canary (r8scan's own test token) to the store.

        Raises:
            StoreUnavailable: A remote token store refused the token, or did not answer.
        """

    def forget_canaries(self, session: Session, digests: Collection[str]) -> None:
        """Delete canaries (r8scan's own test tokens) from the SQL token store. For a remote token store, do nothing."""


class TransactionalAccess:
    """Access to the SQL token store, inside the transaction that records the incidents."""

    def ask(self, digests: Callable[[], Collection[str]]) -> None:
        del digests

    def known(self, database: Database, digests: Collection[str]) -> Collection[str]:
        with database.read() as session:
            return sql.known(session, digests)

    def look_up(self, session: Session, digests: Collection[str], asked: LookUp | None) -> LookUp:
        del asked
        return LookUp(sql.look_up(session, digests, lock=True))

    def disable(self, session: Session, reasons: Mapping[str, str]) -> dict[str, TakenAction]:
        disabled = sql.disable_all(session, reasons)
        return {
            digest: TakenAction(Decision.DISABLED, disabled[digest])
            if digest in disabled
            else TakenAction(Decision.ALREADY_DISABLED)
            for digest in reasons
        }

    def live_only(
        self, digest: SQLColumnExpression[str], *, even_protected: ColumnElement[bool]
    ) -> tuple[ColumnElement[bool], ...]:
        return (sql.is_live(digest, even_protected=even_protected),)

    def confirm_live(self, tokens: Collection[LiveToken]) -> Collection[LiveToken]:
        return tokens

    def register_canary(self, database: Database, digest: str, hint: str) -> None:
        with database.write() as session:
            sql.add_unowned(session, digest, name="r8scan canary", hint=hint)

    def forget_canaries(self, session: Session, digests: Collection[str]) -> None:
        sql.delete_unowned(session, digests)


@dataclass(frozen=True, slots=True)
class RemoteAccess:
    """Access to a remote token store, before and after the transaction that records the incidents."""

    store: RemoteStore

    def ask(self, digests: Callable[[], Collection[str]]) -> LookUp:
        return self._ask(digests())

    def known(self, database: Database, digests: Collection[str]) -> Collection[str] | None:
        del database
        found = self._ask(digests)
        return None if found.not_checked and not found.records else found.records.keys()

    def look_up(self, session: Session, digests: Collection[str], asked: LookUp | None) -> LookUp:
        if asked is None:
            raise ValueError("a remote store has to be asked before the transaction")
        return without_stale(session, asked, digests)

    def disable(self, session: Session, reasons: Mapping[str, str]) -> dict[str, TakenAction]:
        del session
        return {digest: TakenAction(Decision.DISABLING) for digest in reasons}

    def live_only(
        self, digest: SQLColumnExpression[str], *, even_protected: ColumnElement[bool]
    ) -> tuple[ColumnElement[bool], ...]:
        del digest, even_protected
        return ()

    def confirm_live(self, tokens: Collection[LiveToken]) -> Collection[LiveToken]:
        records = self._ask({token.digest for token in tokens}).records
        return {token for token in tokens if token.digest in records and _is_live(records[token.digest], token)}

    def register_canary(self, database: Database, digest: str, hint: str) -> None:
        del database
        self.store.register_canary(digest, hint=hint)

    def forget_canaries(self, session: Session, digests: Collection[str]) -> None:
        del session, digests

    def _ask(self, digests: Collection[str]) -> LookUp:
        if not digests:
            return LookUp({})
        try:
            return self.store.look_up(digests)
        except StoreUnavailable as err:
            _log.error("the token store is unavailable: %s; r8scan will look the tokens up when it is back", err)
            return LookUp({}, frozenset(digests))


TRANSACTIONAL = TransactionalAccess()


def access_to(store: SqlStore | RemoteStore) -> StoreAccess:
    """Return the object that looks up and disables tokens in this token store."""
    return TRANSACTIONAL if isinstance(store, SqlStore) else RemoteAccess(store)


def without_stale(session: Session, found: LookUp, digests: Collection[str]) -> LookUp:
    """Return the token store's answer. Tokens that r8scan has disabled very recently count as not checked."""
    known = [digest for digest in digests if digest in found.records]
    # Lock the incidents first, to wait for a worker that is just completing one.
    statement = (
        select(Incident.digest, Incident.disabled_at, db_now(-SETTLING_SECONDS))
        .where(Incident.digest.in_(known), Incident.state == IncidentState.OPEN)
        .order_by(Incident.digest)
        .with_for_update()
    )
    # Find tokens that r8scan has just disabled. The store's older answer would look as if an operator had enabled them
    # again.
    stale = {
        digest
        for digest, disabled_at, settled in session.execute(statement)
        if disabled_at is not None and disabled_at > settled and found.records[digest].disabled_at is None
    }
    if not stale:
        return found
    records = {digest: record for digest, record in found.records.items() if digest not in stale}
    return LookUp(records, found.not_checked | stale, found.warning)


def _is_live(record: TokenRecord, token: LiveToken) -> bool:
    return record.disabled_at is None and (token.even_protected or not record.is_protected)

"""Access to the token store. This module hides the differences between the two kinds of token store.

With the SQL token store, tokens are looked up and disabled inside the transaction that records the incidents. With a
remote token store, r8scan looks the tokens up before this transaction. The transaction then records each incident as
`disabling`, and the tokens are disabled after the commit (`scanner.response.finishing`).
"""

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
"""If r8scan disabled a token less than this long ago, the store may have answered before that, and the answer may be
outdated. No answer takes longer than this.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TakenAction:
    """What was done about a token. `action` is the value for `Incident.action`.

    `disabled_at` is when the token was disabled, by r8scan or by others. It is None if the token was not disabled or
    the time is not known.
    """

    action: Decision
    disabled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LiveToken:
    """A token that was not disabled when r8scan last decided on it, and may still work.

    If `even_protected` is False, the token does not count as live while it is protected.
    """

    digest: str
    even_protected: bool


class StoreAccess(Protocol):
    """The steps of a response to found tokens that depend on the kind of store."""

    def ask(self, digests: Callable[[], Collection[str]]) -> LookUp | None:
        """Look the tokens up in a remote token store before the transaction begins.

        Args:
            digests: Returns the digests to look up. It is called only for a remote token store.

        Returns:
            The answer to pass to `look_up`. None for the SQL token store, which is read inside the transaction. If the
            remote store is unavailable, the answer lists all digests as not checked.
        """

    def known(self, database: Database, digests: Collection[str]) -> Collection[str] | None:
        """Return which of the digests the token store knows, or None if a remote token store is unavailable.

        Use a separate transaction or request, and lock nothing. If the database is unavailable, raise its error.
        """

    def look_up(self, session: Session, digests: Collection[str], asked: LookUp | None) -> LookUp:
        """Return what the token store knows about the tokens, inside the writing transaction.

        Lock database rows, so that no other transaction decides on the same tokens.

        Args:
            session: The writing transaction.
            digests: The digests to look up.
            asked: The answer of `ask`.
        """

    def disable(self, session: Session, reasons: Mapping[str, str]) -> dict[str, TakenAction]:
        """Disable tokens inside the transaction. For a remote token store, only plan the calls that disable the tokens.

        Args:
            session: The writing transaction.
            reasons: The reason for each digest.

        Returns:
            The action taken for each digest.
        """

    def live_only(
        self, digest: SQLColumnExpression[str], *, even_protected: ColumnElement[bool]
    ) -> tuple[ColumnElement[bool], ...]:
        """Return SQL conditions that select tokens that still work.

        For a remote token store, return no conditions, because the database does not know which tokens still work.

        Args:
            digest: The SQL expression for the token's digest.
            even_protected: An SQL condition. If it is false for a token, the token does not count as live while it is
                protected.
        """

    def confirm_live(self, tokens: Collection[LiveToken]) -> Collection[LiveToken]:
        """Return which of the tokens still work. Leave out tokens that cannot be checked.

        `tokens` are the tokens that were selected with the conditions of `live_only`.
        """

    def register_canary(self, database: Database, digest: str, hint: str) -> None:
        """Add a canary (a test token that works but has no owner) to the store, in a separate transaction or request.

        Raises:
            StoreUnavailable: A remote token store refused the token, or did not answer.
        """

    def forget_canaries(self, session: Session, digests: Collection[str]) -> None:
        """Delete ended canaries (test tokens of r8scan) from the SQL token store.

        For a remote token store, do nothing.
        """


class TransactionalAccess:
    """Access to the SQL token store.

    Tokens are looked up and disabled inside the transaction that records the incidents.
    """

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
    """Access to a remote token store, which is called before and after the transaction that records the incidents."""

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
    """Return the token store's answer `found`, but treat tokens that r8scan disabled after the look-up as not checked.

    Otherwise these tokens would look as if an operator had enabled them again.
    """
    known = [digest for digest in digests if digest in found.records]
    # Lock the incidents first. If another worker is just completing an incident, wait until it has finished.
    statement = (
        select(Incident.digest, Incident.disabled_at, db_now(-SETTLING_SECONDS))
        .where(Incident.digest.in_(known), Incident.state == IncidentState.OPEN)
        .order_by(Incident.digest)
        .with_for_update()
    )
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

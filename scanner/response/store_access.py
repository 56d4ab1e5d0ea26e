"""How a response uses the token store. This module alone expresses the difference between the two kinds of store.

The SQL store joins the response's transaction: tokens are looked up and disabled inside it. A remote store cannot. It
is asked before the transaction, the transaction records each incident as `disabling`, and the call that disables the
token follows after the commit (`scanner.response.finishing`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import ColumnElement, SQLColumnExpression, select
from sqlalchemy.orm import Session

from scanner.records.models import Incident, db_now
from scanner.records.states import Decision, IncidentState
from scanner.tokens import sql
from scanner.tokens.protocol import LookUp, RemoteStore, StoreUnavailable, TokenRecord
from scanner.tokens.sql import SqlStore

SETTLING_SECONDS = 120
"""A disable younger than this is newer than the store's answer: an answer is under way for less time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Act:
    """What was done about a token: the value for `Incident.action`. `at`: when the token was disabled, by anyone."""

    action: Decision
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LetLive:
    """A token that was not disabled. `even_protected`: its protection today is a reason to leave it alone, too."""

    digest: str
    even_protected: bool


class StoreAccess(Protocol):
    """The steps of a response that depend on the kind of store, in the order in which they are taken."""

    def ask(self, digests: Callable[[], Collection[str]]) -> LookUp | None:
        """Ask the store before the transaction begins. An unavailable store has checked nothing; it raises nothing.

        Args:
            digests: called only if this kind of store is asked now.

        Returns:
            The answer for `look_up`, or None if the store is asked inside the transaction.
        """

    def look_up(self, session: Session, digests: Collection[str], asked: LookUp | None) -> LookUp:
        """Return what is known of the tokens inside the writing transaction, with what it needs locked.

        Args:
            asked: what `ask` returned.
        """

    def disable(self, session: Session, reasons: Mapping[str, str]) -> dict[str, Act]:
        """Disable live tokens inside the transaction, or plan the call that does.

        Args:
            reasons: the reason for each digest.

        Returns:
            What was done, for each digest.
        """

    def live_only(
        self, digest: SQLColumnExpression[str], *, even_protected: ColumnElement[bool]
    ) -> tuple[ColumnElement[bool], ...]:
        """Return conditions that select live tokens, as far as the database can tell; `confirm_live` tells the rest.

        Args:
            even_protected: whether a protected token counts as live.
        """

    def confirm_live(self, tokens: Collection[LetLive]) -> Collection[LetLive]:
        """Return those of the tokens, selected by `live_only`, that are live. Without those that cannot be checked."""


class TransactionalAccess:
    """Access to the SQL store, inside the response's own transaction."""

    def ask(self, digests: Callable[[], Collection[str]]) -> None:
        del digests

    def look_up(self, session: Session, digests: Collection[str], asked: LookUp | None) -> LookUp:
        del asked
        return LookUp(sql.look_up(session, digests, lock=True))

    def disable(self, session: Session, reasons: Mapping[str, str]) -> dict[str, Act]:
        disabled = sql.disable_all(session, reasons)
        return {
            digest: Act(Decision.DISABLED, disabled[digest]) if digest in disabled else Act(Decision.ALREADY_DISABLED)
            for digest in reasons
        }

    def live_only(
        self, digest: SQLColumnExpression[str], *, even_protected: ColumnElement[bool]
    ) -> tuple[ColumnElement[bool], ...]:
        return (sql.is_live(digest, even_protected=even_protected),)

    def confirm_live(self, tokens: Collection[LetLive]) -> Collection[LetLive]:
        return tokens


@dataclass(frozen=True, slots=True)
class RemoteAccess:
    """Access to a store outside our database, by calls before and after the transaction."""

    store: RemoteStore

    def ask(self, digests: Callable[[], Collection[str]]) -> LookUp:
        return self._ask(digests())

    def look_up(self, session: Session, digests: Collection[str], asked: LookUp | None) -> LookUp:
        if asked is None:
            raise ValueError("a remote store has to be asked before the transaction")
        return believed(session, asked, digests)

    def disable(self, session: Session, reasons: Mapping[str, str]) -> dict[str, Act]:
        del session
        return {digest: Act(Decision.DISABLING) for digest in reasons}

    def live_only(
        self, digest: SQLColumnExpression[str], *, even_protected: ColumnElement[bool]
    ) -> tuple[ColumnElement[bool], ...]:
        del digest, even_protected
        return ()

    def confirm_live(self, tokens: Collection[LetLive]) -> Collection[LetLive]:
        records = self._ask({token.digest for token in tokens}).records
        return {token for token in tokens if token.digest in records and _is_live(records[token.digest], token)}

    def _ask(self, digests: Collection[str]) -> LookUp:
        if not digests:
            return LookUp({})
        try:
            return self.store.look_up(digests)
        except StoreUnavailable as err:
            _log.error("the token store is away: %s; its tokens are looked up again when it is back", err)
            return LookUp({}, frozenset(digests))


TRANSACTIONAL = TransactionalAccess()


def access_to(store: SqlStore | RemoteStore) -> StoreAccess:
    """Return the way in which responses use this store."""
    return TRANSACTIONAL if isinstance(store, SqlStore) else RemoteAccess(store)


def believed(session: Session, found: LookUp, digests: Collection[str]) -> LookUp:
    """Return the answer without tokens that we disabled while it was under way: they have to be asked for again.

    Such an answer says that the token is live. Taken at its word, it would mean that somebody enabled the token again.
    """
    known = [digest for digest in digests if digest in found.records]
    # Lock the incidents before reading them: if one is being completed at this moment, wait until it is.
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
    return LookUp(records, found.not_checked | stale, found.complaint)


def _is_live(record: TokenRecord, token: LetLive) -> bool:
    return record.disabled_at is None and (token.even_protected or not record.is_protected)

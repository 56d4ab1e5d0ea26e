"""The token store in r8scan's own database: the table `api_tokens`, which the vendor's API also reads.

The functions run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, case, delete, or_, select, update
from sqlalchemy.orm import Session, joinedload, selectinload

from scanner.records.columns import is_among
from scanner.records.database import Database
from scanner.records.models import Account, ApiToken, db_now
from scanner.tokens.protocol import LookUp, TokenRecord

DIGESTS_A_QUERY = 500
DISABLES_A_STATEMENT = 200
"""The number of tokens that one statement disables."""


class SqlStore:
    """The token store in r8scan's database, for callers that only look tokens up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Do nothing: the caller must close the database."""

    def look_up(self, digests: Collection[str]) -> LookUp:
        """Return what the token store knows about the tokens with these digests, in a separate transaction."""
        with self._database.read() as session:
            return LookUp(look_up(session, digests))


def look_up(session: Session, digests: Collection[str], *, lock: bool = False) -> dict[str, TokenRecord]:
    """Return the records of the tokens with these digests, by digest. Unknown digests are left out.

    Args:
        lock: Whether to lock the rows of these tokens.
    """
    found: dict[str, TokenRecord] = {}
    ordered = sorted(digests)
    for start in range(0, len(ordered), DIGESTS_A_QUERY):
        # Most digests are not in the table, so find those that are before joining the accounts.
        asked = is_among(session, ApiToken.digest, ordered[start : start + DIGESTS_A_QUERY])
        matching = select(ApiToken.digest).where(asked)
        if lock:
            # Lock in the order of digests, so that two transactions with common tokens do not deadlock.
            matching = matching.order_by(ApiToken.digest).with_for_update()
        if known := session.execute(matching).scalars().all():
            statement = _tokens().where(ApiToken.digest.in_(known)).execution_options(populate_existing=lock)
            found.update((token.digest, _record(token)) for token in session.execute(statement).scalars())
    return found


def known(session: Session, digests: Collection[str]) -> set[str]:
    """Return which of the digests are in the table, without locking rows."""
    ordered = sorted(digests)
    chunks = (ordered[start : start + DIGESTS_A_QUERY] for start in range(0, len(ordered), DIGESTS_A_QUERY))
    return {
        digest
        for chunk in chunks
        for digest in session.execute(
            select(ApiToken.digest).where(is_among(session, ApiToken.digest, chunk))
        ).scalars()
    }


def disable(session: Session, digest: str, reason: str) -> datetime | None:
    """Disable the token. Return the time, or None if the token is unknown or was disabled before."""
    return disable_all(session, {digest: reason}).get(digest)


def disable_all(session: Session, reasons: Mapping[str, str]) -> dict[str, datetime]:
    """Disable the tokens that are not disabled yet.

    Args:
        session: The caller's writing transaction.
        reasons: For each digest, why its token is disabled.

    Returns:
        The time at which each token was disabled, by digest. Unknown and already disabled tokens are left out.
    """
    disabled: dict[str, datetime] = {}
    ordered = sorted(reasons)
    for start in range(0, len(ordered), DISABLES_A_STATEMENT):
        chunk = ordered[start : start + DISABLES_A_STATEMENT]
        statement = (
            update(ApiToken)
            .where(ApiToken.digest.in_(chunk), ApiToken.disabled_at.is_(None))
            .values(
                disabled_at=db_now(),
                disabled_reason=case({digest: reasons[digest] for digest in chunk}, value=ApiToken.digest),
            )
            .returning(ApiToken.digest, ApiToken.disabled_at)
            .execution_options(synchronize_session=False)
        )
        disabled.update((digest, at) for digest, at in session.execute(statement) if at is not None)
    return disabled


def listed(session: Session, *conditions: ColumnElement[bool], batch: int = 1000) -> Iterator[TokenRecord]:
    """Yield the tokens that meet all conditions, newest first. Only `batch` rows are in memory at a time."""
    statement = _tokens().where(*conditions).order_by(ApiToken.id.desc()).limit(batch)
    last: int | None = None
    while True:
        below = [] if last is None else [ApiToken.id < last]
        tokens: Sequence[ApiToken] = session.execute(statement.where(*below)).scalars().all()
        yield from (_record(token) for token in tokens)
        if len(tokens) < batch:
            return
        last = tokens[-1].id
        session.expunge_all()


def add_unowned(session: Session, digest: str, *, name: str, hint: str) -> None:
    """Add a token that works, but has no account.

    The vendor's API must give this token no rights: see docs/token-store.md.
    """
    session.add(ApiToken(digest=digest, name=name, hint=hint, created_at=db_now()))


def delete_unowned(session: Session, digests: Collection[str]) -> None:
    """Delete the tokens that have one of these digests and no account."""
    ordered = sorted(digests)
    for start in range(0, len(ordered), DIGESTS_A_QUERY):
        listed = ApiToken.digest.in_(ordered[start : start + DIGESTS_A_QUERY])
        unowned = ApiToken.account_id.is_(None)
        session.execute(delete(ApiToken).where(listed, unowned).execution_options(synchronize_session=False))


def protect(session: Session, digest: str, *, protected: bool) -> bool:
    """Protect a token from being disabled, or end its protection. Return False if the token is unknown."""
    result = session.execute(
        update(ApiToken)
        .where(ApiToken.digest == digest)
        .values(protected_at=db_now() if protected else None)
        .execution_options(synchronize_session=False)
    )
    return bool(result.rowcount == 1)  # type: ignore[attr-defined]  # an UPDATE's result has it


def is_live(digest: SQLColumnExpression[str], *, even_protected: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the SQL condition that a token with this digest exists and is not disabled.

    Args:
        even_protected: An SQL condition for tokens that count as live even while they are protected.
    """
    unprotected = or_(ApiToken.protected_at.is_(None), even_protected)
    return select(ApiToken.id).where(ApiToken.digest == digest, ApiToken.disabled_at.is_(None), unprotected).exists()


def digest_of_id(session: Session, token_id: str) -> str | None:
    """Return the digest of the token with this id, or None if there is no such token."""
    if not token_id.isdecimal() or len(token_id) > 18:
        return None
    return session.execute(select(ApiToken.digest).where(ApiToken.id == int(token_id))).scalar_one_or_none()


def _tokens() -> Select[ApiToken]:
    return select(ApiToken).options(joinedload(ApiToken.account).options(selectinload(Account.recipients)))


def _record(token: ApiToken) -> TokenRecord:
    account = token.account
    return TokenRecord(
        id=str(token.id),
        digest=token.digest,
        name=token.name,
        hint=token.hint,
        account_id=None if account is None else str(account.id),
        account_name=None if account is None else account.name,
        recipients=() if account is None else tuple(recipient.email for recipient in account.recipients),
        created_at=token.created_at,
        last_used_at=token.last_used_at,
        disabled_at=token.disabled_at,
        disabled_reason=token.disabled_reason,
        is_protected=token.protected_at is not None,
    )

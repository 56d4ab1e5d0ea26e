"""Imports tokens and accounts into the token store in r8scan's own database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import case, delete, select
from sqlalchemy.orm import Session

from scanner.records.columns import insert_into, insert_or_nothing
from scanner.records.models import Account, ApiToken, Recipient, db_now
from scanner.tokens.imports import ImportedToken


@dataclass(slots=True)
class ImportRun:
    """One import of tokens. It replaces the mail addresses of each account that it names."""

    accounts_seen: set[int]

    @classmethod
    def begin(cls) -> ImportRun:
        return cls(set())

    def write(self, session: Session, tokens: Sequence[ImportedToken]) -> None:
        """Insert or update some tokens, in the caller's transaction. A disabled token stays disabled."""
        accounts = _accounts(session, {token.account for token in tokens if token.account})
        self._write_recipients(session, tokens, accounts)
        rows = {
            token.digest: {
                "digest": token.digest,
                "hint": token.hint,
                "name": token.name,
                "account_id": accounts[token.account] if token.account else None,
            }
            for token in tokens
        }
        insert = insert_into(session, ApiToken.__table__).values(created_at=db_now())
        given = insert.excluded
        statement = insert.on_conflict_do_update(
            index_elements=["digest"],
            set_={
                "name": given.name,
                "account_id": given.account_id,
                "hint": case((given.hint == "", ApiToken.hint), else_=given.hint),
            },
        )
        # Pass the rows as parameters, because compiling a thousand rows of VALUES takes most of the time.
        session.connection().execute(statement, [rows[digest] for digest in sorted(rows)])

    def _write_recipients(self, session: Session, tokens: Sequence[ImportedToken], accounts: dict[str, int]) -> None:
        wanted: dict[int, dict[str, None]] = {}
        for token in tokens:
            if token.account:
                wanted.setdefault(accounts[token.account], {}).update(dict.fromkeys(token.emails))
        first_seen = wanted.keys() - self.accounts_seen
        if first_seen:
            session.execute(delete(Recipient).where(Recipient.account_id.in_(first_seen)))
            self.accounts_seen |= first_seen
        rows = [{"account_id": account, "email": email} for account, emails in wanted.items() for email in emails]
        if rows:
            session.connection().execute(insert_or_nothing(session, Recipient), rows)


def _accounts(session: Session, names: Iterable[str]) -> dict[str, int]:
    ordered = sorted(names)
    if not ordered:
        return {}
    insert = insert_or_nothing(session, Account).values(created_at=db_now())
    session.connection().execute(insert, [{"name": name} for name in ordered])
    found = session.execute(select(Account.name, Account.id).where(Account.name.in_(ordered)))
    return dict(list(found))

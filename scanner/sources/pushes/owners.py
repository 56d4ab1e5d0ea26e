"""Repository owners who are more likely than others to leak a token."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records.models import Account, Exposure, db_now

LEAKED_WITHIN_DAYS = 365
MAX_EXPOSURES = 20_000
"""Only this many recorded places, the newest ones, are searched for owners who have leaked a token."""
NAMES_A_STATEMENT = 500


_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""A valid owner's name."""


@dataclass(frozen=True, slots=True)
class KnownOwners:
    """Repository owners who have leaked a token before, or have an account in the token store.

    All names are in lower case.
    """

    leaked: frozenset[str] = field(default_factory=frozenset)
    with_account: frozenset[str] = field(default_factory=frozenset)


def known_owners(session: Session, owners: Collection[str]) -> KnownOwners:
    """Return which of the owners have leaked a token before or have an account in the token store."""
    wanted = sorted({owner.lower() for owner in owners if _NAME.fullmatch(owner)})
    if not wanted:
        return KnownOwners()
    newest = (
        select(Exposure.repository)
        .where(Exposure.repository.is_not(None), Exposure.seen_at > db_now(-LEAKED_WITHIN_DAYS * 86400))
        .order_by(Exposure.seen_at.desc())
        .limit(MAX_EXPOSURES)
    )
    leaked = {str(name).partition("/")[0].lower() for name in session.execute(newest).scalars()}
    accounts: set[str] = set()
    for start in range(0, len(wanted), NAMES_A_STATEMENT):
        names = wanted[start : start + NAMES_A_STATEMENT]
        found = select(func.lower(Account.name)).where(func.lower(Account.name).in_(names))
        accounts.update(session.execute(found).scalars())
    return KnownOwners(frozenset(leaked.intersection(wanted)), frozenset(accounts))

"""SQL conditions that find incidents by the names of accounts and tokens."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, aliased

from scanner.detection.patterns.token_formats import prefixes
from scanner.records.models import Incident, Notification, NotificationSubject
from workers.web.console.queries.incident_rows import OWNER_CHANNEL

MAX_RARE = 20_000
"""If at most this many incidents match a searched name, all of them are read and sorted, which takes about 20 ms."""
_HEX = re.compile(r"[0-9a-f-]{4,36}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def search(term: str) -> list[ColumnElement[bool]]:
    """Return SQL conditions for a search term. An incident matches if it meets one of them."""
    low = term.lower()
    if _DIGEST.fullmatch(low):
        return [Incident.digest == low]
    if term.startswith(prefixes()):
        return [Incident.hint.like(prefix(term), escape="\\")]
    if "@" in term:
        return [_belongs_to_address(term)]
    meanings: list[ColumnElement[bool]] = [
        Incident.account_name.like(prefix(term), escape="\\"),
        Incident.token_name.like(prefix(term), escape="\\"),
        Incident.account_id == term,
    ]
    digits = low.replace("-", "")
    if _HEX.fullmatch(low) and 4 <= len(digits) <= 32:
        first, last = uuid.UUID(digits.ljust(32, "0")), uuid.UUID(digits.ljust(32, "f"))
        meanings.append(Incident.id.between(first, last))
    return meanings


def of_account(account: str) -> list[ColumnElement[bool]]:
    """Return SQL conditions for an account's name or id. An incident matches if it meets one of them."""
    return [Incident.account_name == account, Incident.account_id == account]


def is_repository(term: str) -> bool:
    """Return whether a search term looks like a repository's name, such as "owner/name"."""
    return "/" in term and not term.startswith(prefixes())


def is_rare(session: Session, alternatives: Sequence[ColumnElement[bool]]) -> bool:
    """Return whether at most MAX_RARE incidents meet one of the conditions."""
    number = 0
    for condition in alternatives:
        met = select(Incident.id).where(condition).limit(MAX_RARE + 1 - number).subquery()
        number += session.execute(select(func.count()).select_from(met)).scalar_one()
        if number > MAX_RARE:
            return False
    return True


def prefix(term: str) -> str:
    """Return an SQL LIKE pattern for texts that begin with the term. A backslash escapes wildcards."""
    return term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def _belongs_to_address(address: str) -> ColumnElement[bool]:
    """Return the SQL condition for incidents whose owner has this mail address."""
    criteria = aliased(Incident)
    told = (
        select(NotificationSubject.incident_id)
        .join(Notification)
        .where(Notification.recipient == address, Notification.channel == OWNER_CHANNEL)
    )
    # Use a UNION. For an OR with a subquery, the database would read all incidents.
    return Incident.id.in_(
        select(criteria.id).where(criteria.account_name.like(prefix(address), escape="\\")).union(told)
    )

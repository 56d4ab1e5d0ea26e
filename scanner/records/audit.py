"""The append-only record of who did what on what evidence."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from scanner.records.models import AuditEntry, db_now

SYSTEM = "r8scan"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was done. `evidence` must be JSON and hold no raw token."""

    what: str
    evidence: Mapping[str, Any]
    incident_id: uuid.UUID | None = None


def record(
    session: Session,
    what: str,
    evidence: Mapping[str, Any],
    *,
    who: str = SYSTEM,
    incident_id: uuid.UUID | None = None,
) -> None:
    """Add an entry in the caller's transaction. `evidence` must be JSON and hold no raw token."""
    record_all(session, [Entry(what, evidence, incident_id)], who=who)


def record_all(session: Session, entries: Collection[Entry], *, who: str = SYSTEM) -> None:
    """Add entries in the caller's transaction, in this order."""
    if not entries:
        return
    session.flush()  # they may tell of rows that are still on their way
    rows = [
        {"who": who, "what": entry.what, "incident_id": entry.incident_id, "evidence": dict(entry.evidence)}
        for entry in entries
    ]
    session.connection().execute(insert(AuditEntry).values(at=db_now()), rows)

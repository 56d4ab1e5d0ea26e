"""The append-only record of who did what on what evidence."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from scanner.records.models import AuditEntry, db_now

SYSTEM = "r8scan"


def record(
    session: Session,
    what: str,
    evidence: Mapping[str, Any],
    *,
    who: str = SYSTEM,
    incident_id: uuid.UUID | None = None,
) -> None:
    """Add an entry in the caller's transaction. `evidence` must be JSON and hold no raw token."""
    session.add(AuditEntry(at=db_now(), who=who, what=what, incident_id=incident_id, evidence=dict(evidence)))

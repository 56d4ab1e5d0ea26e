"""The audit: an append-only hash chain of entries that say who did what, and on which evidence."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, event, insert, select, text, update
from sqlalchemy.orm import Session

from scanner.records import security_log
from scanner.records.audit_hashes import content_hash, entry_hash
from scanner.records.audit_models import AuditEntry, AuditHead, RemovedAuditEntry
from scanner.records.columns import storable_json, storable_text
from scanner.records.models import db_now

SYSTEM = "r8scan"
REMOVED = "audit_entries_removed"
"""The action of an entry that lists the ids of entries erased with an account's data."""
PURGED = "audit_purged"
"""The action of an entry that names the last entry deleted because of its age."""
HEAD_ID = 1
IDS_PER_ENTRY = 500
_WAITING = "r8scan_audit_entries"
_APPEND = text("SELECT audit_append(CAST(:entries AS jsonb))")


@dataclass(frozen=True, slots=True)
class Entry:
    """An action to record in the audit. `evidence` must be JSON and must not contain a raw token."""

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
    """Add one audit entry in the caller's transaction. See `record_all`."""
    record_all(session, [Entry(what, evidence, incident_id)], who=who)


def record_all(session: Session, entries: Collection[Entry], *, who: str = SYSTEM) -> None:
    """Add audit entries in the caller's transaction, in the given order. They are written when the transaction commits.

    Raises:
        TypeError: The evidence is not JSON.
        RuntimeError: The caller is inside a savepoint, whose rollback would not remove the entries.
    """
    if not entries:
        return
    if session.in_nested_transaction():
        raise RuntimeError("audit entries cannot be added inside a savepoint")
    if _WAITING not in session.info:
        session.info[_WAITING] = []
        event.listen(session, "before_commit", _write_waiting)
        event.listen(session, "after_rollback", _forget_waiting)
    session.info[_WAITING] += [
        {
            # Store text and JSON as the database returns them, because the hash is checked against that form.
            "who": storable_text(who),
            "what": entry.what,
            "incident_id": entry.incident_id,
            "evidence": json.loads(storable_json(dict(entry.evidence))),
        }
        for entry in entries
    ]
    for entry in entries:
        security_log.write_after_commit(session, entry.what, entry.evidence, who=who, incident_id=entry.incident_id)


def remove(session: Session, condition: ColumnElement[bool], *, who: str = SYSTEM) -> int:
    """Remove the audit entries that match the condition, except their hashes. Return their number."""
    columns = (AuditEntry.id, AuditEntry.hash, AuditEntry.previous_hash)
    rows = session.execute(select(*columns).where(condition).order_by(AuditEntry.id)).all()
    for start in range(0, len(rows), IDS_PER_ENTRY):
        chunk = rows[start : start + IDS_PER_ENTRY]
        ids = [row.id for row in chunk]
        session.execute(
            insert(RemovedAuditEntry),
            [{"id": row.id, "hash": row.hash, "previous_hash": row.previous_hash} for row in chunk],
        )
        session.execute(delete(AuditEntry).where(AuditEntry.id.in_(ids)).execution_options(synchronize_session=False))
        record(session, REMOVED, {"ids": ids}, who=who)
    return len(rows)


def purge(session: Session, horizon: db_now, *, limit: int) -> int:
    """Delete the oldest audit entries, at most `limit`, if they were written before `horizon`. Return their number."""
    head = session.execute(select(AuditHead).with_for_update()).scalar_one()
    oldest = select(AuditEntry.id, AuditEntry.at, AuditEntry.hash).order_by(AuditEntry.id).limit(limit)
    rows = session.execute(oldest.add_columns((AuditEntry.at < horizon).label("is_old"))).all()
    old = []
    for row in rows:
        if not row.is_old:
            break
        old.append(row)
    if not old:
        return 0
    last = old[-1]
    head.purged_id, head.purged_hash, head.purged_count = last.id, last.hash, head.purged_count + len(old)
    session.flush()
    for model in (AuditEntry, RemovedAuditEntry):
        session.execute(delete(model).where(model.id <= last.id).execution_options(synchronize_session=False))
    evidence = {"id": last.id, "hash": last.hash, "entries": len(old), "entries_ever": head.purged_count}
    record(session, PURGED, evidence)
    return len(old)


def _write_waiting(session: Session) -> None:
    """Append this transaction's new audit entries to the hash chain."""
    if session.in_nested_transaction():
        return
    waiting: list[dict[str, Any]] = session.info[_WAITING]
    if not waiting:
        return
    session.flush()  # get all other locks before the lock on the chain
    at = session.execute(select(db_now())).scalar_one()
    for row in waiting:
        row |= {"at": at, "nonce": secrets.token_hex(16)}
    if session.get_bind().dialect.name == "postgresql":
        _append_in_database(session, waiting)
    else:
        _append(session, waiting)
    waiting.clear()


def _append_in_database(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append audit entries by one call of the database function `audit_append`."""
    entries = [
        {
            **row,
            "at": row["at"].isoformat(timespec="microseconds"),
            "incident_id": str(row["incident_id"]) if row["incident_id"] else None,
            "content_hash": content_hash(row),
        }
        for row in rows
    ]
    session.connection().execute(_APPEND, {"entries": json.dumps(entries)})


def _append(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Append audit entries on SQLite."""
    head = session.execute(select(AuditHead.last_id, AuditHead.last_hash).where(AuditHead.id == HEAD_ID)).one()
    last_id, last_hash = head.last_id, head.last_hash
    for row in rows:
        last_id += 1
        row |= {"id": last_id, "previous_hash": last_hash}
        row["hash"] = last_hash = entry_hash(row)
    session.connection().execute(insert(AuditEntry), rows)
    session.execute(
        update(AuditHead)
        .where(AuditHead.id == HEAD_ID)
        .values(last_id=last_id, last_hash=last_hash)
        .execution_options(synchronize_session=False)
    )


def _forget_waiting(session: Session) -> None:
    session.info[_WAITING].clear()

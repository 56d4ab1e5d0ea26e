"""Verification of the audit's hash chain: reads all of it, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records import audit
from scanner.records.audit_hashes import entry_hash
from scanner.records.database import Database
from scanner.records.models import AuditEntry, AuditHead, RemovedAuditEntry

ROWS_A_PAGE = 2000


class Broken(Exception):
    """The audit was tampered with; the message is one line that says where."""


@dataclass(slots=True)
class Verified:
    """What was verified: how many entries, from which id to which, how many were removed by r8scan itself."""

    entries: int = 0
    removed: int = 0
    purged: int = 0
    last_id: int = 0
    last_hash: str = ""


@dataclass(slots=True)
class _Walk:
    """Where the walk along the chain is, and what the entries say about removed ones."""

    previous_id: int
    previous_hash: str
    removed_ids: set[int] = field(default_factory=set)
    named_ids: set[int] = field(default_factory=set)
    last_purge: dict[str, Any] | None = None


def verify(database: Database) -> Verified:
    """Walk along the whole chain in one snapshot of the database.

    Raises:
        Broken: an entry was changed, removed, inserted or moved; the message says which.
    """
    options = {"isolation_level": "REPEATABLE READ"} if database.is_postgresql else {}
    with database.read() as session:
        session.connection(execution_options=options)
        heads = session.execute(select(AuditHead)).scalars().all()
        if len(heads) != 1:
            raise Broken(f"the head of the audit was tampered with: it has {len(heads)} rows, not 1")
        head = heads[0]
        result = Verified(purged=head.purged_count, last_id=head.last_id, last_hash=head.last_hash)
        walk = _Walk(head.purged_id, head.purged_hash)
        for row in _rows(session, head.purged_id):
            _step(walk, row, result)
        _check_end(walk, head)
        return result


def _step(walk: _Walk, row: dict[str, Any], result: Verified) -> None:
    """Check one entry, or what is kept of a removed one, against the one before it."""
    if row["previous_hash"] != walk.previous_hash:
        raise Broken(
            f"entry {row['id']} does not follow entry {walk.previous_id}: "
            "entries between them were removed, inserted or moved"
        )
    if "evidence" in row:
        result.entries += 1
        if entry_hash(row) != row["hash"]:
            raise Broken(f"entry {row['id']} was changed, inserted or moved: its hash does not match its content")
        if row["what"] == audit.REMOVED:
            walk.named_ids.update(row["evidence"]["ids"])
        elif row["what"] == audit.PURGED:
            walk.last_purge = row["evidence"]
    else:
        result.removed += 1
        walk.removed_ids.add(row["id"])
    walk.previous_id, walk.previous_hash = row["id"], row["hash"]


def _check_end(walk: _Walk, head: AuditHead) -> None:
    if (walk.previous_id, walk.previous_hash) != (head.last_id, head.last_hash):
        raise Broken(f"the audit ends with entry {walk.previous_id}, but entry {head.last_id} was written last")
    if unnamed := walk.removed_ids - walk.named_ids:
        raise Broken(f"entry {min(unnamed)} was removed, and no entry records that")
    if head.purged_id and walk.last_purge is None:
        raise Broken(f"the entries up to {head.purged_id} were removed, and no entry records that")
    if walk.last_purge is not None:
        said = (walk.last_purge["id"], walk.last_purge["hash"], walk.last_purge["entries_ever"])
        if said != (head.purged_id, head.purged_hash, head.purged_count):
            raise Broken(f"the head says that entries up to {head.purged_id} were purged, but an entry says {said[0]}")


def _rows(session: Session, after: int) -> Iterator[dict[str, Any]]:
    """Yield what follows an id, entries and removed ones together, by id, a page at a time."""
    columns = tuple(AuditEntry.__table__.columns)
    kept_columns = tuple(RemovedAuditEntry.__table__.columns)
    while True:
        query = select(*columns).where(AuditEntry.id > after).order_by(AuditEntry.id).limit(ROWS_A_PAGE)
        page = [dict(row) for row in session.execute(query).mappings()]
        removed = select(*kept_columns).where(RemovedAuditEntry.id > after).order_by(RemovedAuditEntry.id)
        page += [dict(row) for row in session.execute(removed.limit(ROWS_A_PAGE)).mappings()]
        page.sort(key=lambda row: (row["id"], "evidence" not in row))
        if not page:
            return
        page = page[:ROWS_A_PAGE]
        yield from page
        after = page[-1]["id"]

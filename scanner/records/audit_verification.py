"""Verification of the audit's hash chain. It reads the whole chain and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records import audit
from scanner.records.audit_hashes import entry_hash
from scanner.records.audit_models import AuditEntry, AuditHead, RemovedAuditEntry
from scanner.records.database import Database

ROWS_PER_PAGE = 2000


class AuditBroken(Exception):
    """Raised if an audit entry was changed, removed, inserted or moved. The message names the entry."""


@dataclass(slots=True)
class VerifiedChain:
    """The result of a successful verification: the numbers of verified, erased and deleted entries, and the newest
    entry.
    """

    entries: int = 0
    removed: int = 0
    purged: int = 0
    last_id: int = 0
    last_hash: str = ""


@dataclass(slots=True)
class _Walk:
    """The progress of a verification of the audit."""

    previous_id: int
    previous_hash: str
    removed_ids: set[int] = field(default_factory=set)
    named_ids: set[int] = field(default_factory=set)
    last_purge: dict[str, Any] | None = None


def verify(database: Database) -> VerifiedChain:
    """Verify the whole audit chain in one snapshot of the database.

    Raises:
        AuditBroken: An entry was changed, removed, inserted or moved.
    """
    options = {"isolation_level": "REPEATABLE READ"} if database.is_postgresql else {}
    with database.read() as session:
        session.connection(execution_options=options)
        heads = session.execute(select(AuditHead)).scalars().all()
        if len(heads) != 1:
            raise AuditBroken(f"the head of the audit was tampered with: it has {len(heads)} rows, not 1")
        head = heads[0]
        result = VerifiedChain(purged=head.purged_count, last_id=head.last_id, last_hash=head.last_hash)
        walk = _Walk(head.purged_id, head.purged_hash)
        for row in _rows(session, head.purged_id):
            _check_entry(walk, row, result)
        _check_end(walk, head)
        return result


def _check_entry(walk: _Walk, row: dict[str, Any], result: VerifiedChain) -> None:
    """Check one audit entry, or the kept hashes of a removed entry, against the previous entry."""
    if row["previous_hash"] != walk.previous_hash:
        raise AuditBroken(
            f"entry {row['id']} does not follow entry {walk.previous_id}: "
            "entries between them were removed, inserted or moved"
        )
    if "evidence" in row:
        result.entries += 1
        if entry_hash(row) != row["hash"]:
            raise AuditBroken(f"entry {row['id']} was changed, inserted or moved: its hash does not match its content")
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
        raise AuditBroken(f"the audit ends with entry {walk.previous_id}, but entry {head.last_id} was written last")
    if unnamed := walk.removed_ids - walk.named_ids:
        raise AuditBroken(f"entry {min(unnamed)} was removed, and no entry records that")
    if head.purged_id and walk.last_purge is None:
        raise AuditBroken(f"the entries up to {head.purged_id} were removed, and no entry records that")
    if walk.last_purge is not None:
        said = (walk.last_purge["id"], walk.last_purge["hash"], walk.last_purge["entries_ever"])
        if said != (head.purged_id, head.purged_hash, head.purged_count):
            raise AuditBroken(
                f"the head says that entries up to {head.purged_id} were purged, but an entry says {said[0]}"
            )


def _rows(session: Session, after: int) -> Iterator[dict[str, Any]]:
    """Yield the audit entries and the removed entries with an id above `after`, by id."""
    columns = tuple(AuditEntry.__table__.columns)
    kept_columns = tuple(RemovedAuditEntry.__table__.columns)
    while True:
        query = select(*columns).where(AuditEntry.id > after).order_by(AuditEntry.id).limit(ROWS_PER_PAGE)
        page = [dict(row) for row in session.execute(query).mappings()]
        removed = select(*kept_columns).where(RemovedAuditEntry.id > after).order_by(RemovedAuditEntry.id)
        page += [dict(row) for row in session.execute(removed.limit(ROWS_PER_PAGE)).mappings()]
        page.sort(key=lambda row: (row["id"], "evidence" not in row))
        if not page:
            return
        page = page[:ROWS_PER_PAGE]
        yield from page
        after = page[-1]["id"]

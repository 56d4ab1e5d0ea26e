"""The tables of the audit: its entries, the ends of the hash chain, and the hashes of erased entries."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import Id, String
from scanner.records.models import Base


class AuditEntry(Base):
    """An entry of the audit: who did what, when and on which evidence. `hash` chains each entry to the previous one.

    Only `records.audit` writes this table.
    """

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("CURRENT_TIMESTAMP"), default=None)
    who: Mapped[str] = mapped_column(String(255), index=True)
    what: Mapped[str] = mapped_column(String(64), index=True)
    incident_id: Mapped[uuid.UUID | None] = mapped_column(index=True)
    evidence: Mapped[dict[str, Any]] = mapped_column(default=dict)
    # A random value, so that nobody can guess a removed entry and confirm the guess by the hash.
    nonce: Mapped[str] = mapped_column(String(32))
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditHead(Base):
    """The newest audit entry and the last deleted one, in one row."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    last_id: Mapped[int] = mapped_column(Id)
    last_hash: Mapped[str] = mapped_column(String(64))
    purged_id: Mapped[int] = mapped_column(Id)
    purged_hash: Mapped[str] = mapped_column(String(64))
    purged_count: Mapped[int] = mapped_column(Id)


class RemovedAuditEntry(Base):
    """The hashes of an audit entry that was erased together with an account's data."""

    __tablename__ = "audit_removed"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))

"""The tables. Their meaning stands here; who may write them, and how, stands in the modules that do."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, MetaData, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from scanner.records.columns import Id, Json, String, Text, UtcDateTime, db_hour, db_now
from scanner.records.states import (
    Cause,
    Decision,
    IncidentState,
    JobState,
    NotificationState,
    SightingState,
    column_of,
)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's way to say it
        datetime: UtcDateTime,
        str: Text,
        dict[str, Any]: Json,
        list[str]: Json,
        list[Any]: Json,
    }


class Account(Base):
    """Who owns tokens. `name` is the vendor's own name for it and identifies it."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=None, server_default=text("CURRENT_TIMESTAMP"))
    recipients: Mapped[list[Recipient]] = relationship(
        back_populates="account", order_by="Recipient.id", cascade="all, delete-orphan"
    )


class Recipient(Base):
    """A mail address of an account; each gets every mail once."""

    __tablename__ = "recipients"
    __table_args__ = (UniqueConstraint("account_id", "email"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    email: Mapped[str] = mapped_column(String(320))
    account: Mapped[Account] = relationship(back_populates="recipients")


class ApiToken(Base):
    """A token of the vendor's, by digest. `disabled_at` set means: the vendor's API answers 401."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(255), default="")
    hint: Mapped[str] = mapped_column(String(16), default="")
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=text("CURRENT_TIMESTAMP"), default=None)
    last_used_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(String(255))
    protected_at: Mapped[datetime | None]
    account: Mapped[Account | None] = relationship()


class Incident(Base):
    """What happened to one token. Names of token and account are copies: no mail may depend on what changes.

    `action` says what was done about the token. A digest has at most one open incident. `evidence` holds under `signs`
    what was reported.
    """

    __tablename__ = "incidents"
    __table_args__ = (
        Index(
            "ix_incidents_disabling",
            "next_attempt_at",
            postgresql_where=text("action = 'disabling'"),
            sqlite_where=text("action = 'disabling'"),
        ),
        Index(
            "uq_incidents_open_digest",
            "digest",
            unique=True,
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
        # For the lists of the console, which page by (detected_at, id).
        *(Index(f"ix_incidents_{name}_detected_at", name, "detected_at") for name in ("state", "action", "cause")),
        Index("ix_incidents_account_name", "account_name", postgresql_ops={"account_name": "text_pattern_ops"}),
        Index("ix_incidents_token_name", "token_name", postgresql_ops={"token_name": "text_pattern_ops"}),
        Index("ix_incidents_hint", "hint", postgresql_ops={"hint": "text_pattern_ops"}),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    digest: Mapped[str] = mapped_column(String(64), index=True)
    hint: Mapped[str] = mapped_column(String(16))
    token_id: Mapped[str] = mapped_column(String(64))
    token_name: Mapped[str] = mapped_column(String(255))
    token_created_at: Mapped[datetime | None]
    token_last_used_at: Mapped[datetime | None]
    account_id: Mapped[str | None] = mapped_column(String(64), index=True)
    account_name: Mapped[str | None] = mapped_column(String(255))
    cause: Mapped[Cause] = mapped_column(column_of(Cause, 32))
    action: Mapped[Decision] = mapped_column(column_of(Decision, 32))
    state: Mapped[IncidentState] = mapped_column(column_of(IncidentState, 16), default=IncidentState.OPEN)
    detected_at: Mapped[datetime] = mapped_column(index=True)
    disabled_at: Mapped[datetime | None]
    evidence: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    leased_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    next_attempt_at: Mapped[datetime | None]
    """When the call that disables the token is due, while `action` is `disabling`."""
    exposures: Mapped[list[Exposure]] = relationship(back_populates="incident", order_by="Exposure.id")


class PlaceColumns:
    """A place and the position in it, flat; nothing here holds a raw token."""

    kind: Mapped[str] = mapped_column(String(32))
    url: Mapped[str] = mapped_column(Text)
    repository: Mapped[str | None] = mapped_column(Text)
    repository_id: Mapped[int | None] = mapped_column(Id)
    path: Mapped[str | None] = mapped_column(Text)
    commit: Mapped[str | None] = mapped_column(String(64))
    ref: Mapped[str | None] = mapped_column(Text)
    git_object: Mapped[str | None] = mapped_column(String(64))
    line: Mapped[int] = mapped_column(default=0)
    column: Mapped[int] = mapped_column(default=0)
    encoding: Mapped[str] = mapped_column(Text, default="plain")
    container: Mapped[str] = mapped_column(Text, default="")
    published_at: Mapped[datetime | None]
    source: Mapped[str] = mapped_column(String(64))
    place_key: Mapped[str] = mapped_column(String(64))


class Exposure(PlaceColumns, Base):
    """One public place where an incident's token stands."""

    __tablename__ = "exposures"
    __table_args__ = (
        UniqueConstraint("incident_id", "place_key"),
        # A hash index takes a name of any length, and strangers choose it; a B-tree refuses 2700 bytes and more.
        Index("ix_exposures_repository", "repository", postgresql_using="hash"),
        Index("ix_exposures_source_seen_at", "source", "seen_at"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    incident_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("incidents.id", ondelete="CASCADE"))
    seen_at: Mapped[datetime]
    incident: Mapped[Incident] = relationship(back_populates="exposures")


class Sighting(PlaceColumns, Base):
    """A candidate that the token store has not confirmed."""

    __tablename__ = "sightings"
    __table_args__ = (
        UniqueConstraint("digest", "place_key"),
        Index("ix_sightings_state_next_check_at", "state", "next_check_at"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    hint: Mapped[str] = mapped_column(String(16))
    state: Mapped[SightingState] = mapped_column(column_of(SightingState, 16))
    seen_at: Mapped[datetime]
    next_check_at: Mapped[datetime]


class Notification(Base):
    """A message to somebody: a row of the outbox.

    A `frozen` message has fixed `facts`. `recipient` is a mail address, None where there is none to be had.
    `attempts` is the fence of the lease as well as the count.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        Index(
            "uq_notifications_pending",
            "channel",
            "merge_key",
            unique=True,
            postgresql_where=text("state = 'pending'"),
            sqlite_where=text("state = 'pending'"),
        ),
        Index("ix_notifications_state_next_attempt_at", "state", "next_attempt_at"),
        Index("ix_notifications_created_at", "created_at"),
        Index("ix_notifications_recipient", "recipient"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    channel: Mapped[str] = mapped_column(String(32))
    merge_key: Mapped[str] = mapped_column(String(400))
    account_id: Mapped[str | None] = mapped_column(String(64))
    recipient: Mapped[str | None] = mapped_column(String(320))
    state: Mapped[NotificationState] = mapped_column(
        column_of(NotificationState, 16), default=NotificationState.PENDING
    )
    leased_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime]
    facts: Mapped[dict[str, Any] | None]
    message_id: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    subjects: Mapped[list[NotificationSubject]] = relationship(
        back_populates="notification", order_by="NotificationSubject.id"
    )


class NotificationSubject(Base):
    """Which incident a notification tells of; its unique key is the promise that nobody is told twice of one thing."""

    __tablename__ = "notification_subjects"
    __table_args__ = (UniqueConstraint("incident_id", "channel", "merge_key", "occasion"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    notification_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("notifications.id", ondelete="CASCADE"), index=True)
    incident_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("incidents.id", ondelete="CASCADE"))
    channel: Mapped[str] = mapped_column(String(32))
    merge_key: Mapped[str] = mapped_column(String(400))
    occasion: Mapped[str] = mapped_column(String(64))
    notification: Mapped[Notification] = relationship(back_populates="subjects")
    incident: Mapped[Incident] = relationship()


class Announcement(Base):
    """A token that we disabled, for gateways that cache authentications. Ids only grow, and none is used twice.

    `incident_id` is None where an operator disabled it by hand. No foreign key: it outlives nothing and needs nothing.
    """

    __tablename__ = "announcements"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - that is SQLAlchemy's way to say it

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    token_id: Mapped[str] = mapped_column(String(64))
    cause: Mapped[Cause] = mapped_column(column_of(Cause, 32))
    incident_id: Mapped[uuid.UUID | None] = mapped_column(unique=True)
    disabled_at: Mapped[datetime]
    announced_at: Mapped[datetime] = mapped_column(index=True)


class ScanJob(Base):
    """Something to read, by `kind`: a page of `pushes`, a `repository` with all of its history, a `gist`, …

    `attempts` is the fence of the lease; `failures` counts claims since the last progress, and is bounded.
    While nobody has begun it (`begun_at`), it stands for all that is asked for under its `dedupe_key`; later, what has
    changed since may be past where it is.
    """

    __tablename__ = "scan_jobs"
    __table_args__ = (
        Index("ix_scan_jobs_kind_state_priority_next_attempt_at", "kind", "state", "priority", "next_attempt_at"),
        Index("ix_scan_jobs_state", "state"),
        Index("ix_scan_jobs_source", "source"),
        Index(
            "uq_scan_jobs_waiting_dedupe_key",
            "dedupe_key",
            unique=True,
            postgresql_where=text("state = 'queued' AND begun_at IS NULL"),
            sqlite_where=text("state = 'queued' AND begun_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    source: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int] = mapped_column(default=100)
    items: Mapped[int] = mapped_column(default=1, server_default="1")
    """How many things it reads: pushes, files; 1 where it is one thing."""
    target: Mapped[dict[str, Any]]
    dedupe_key: Mapped[str | None] = mapped_column(String(400))
    state: Mapped[JobState] = mapped_column(column_of(JobState, 16), default=JobState.QUEUED)
    leased_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime]
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str | None] = mapped_column(Text)
    visible_at: Mapped[datetime | None]
    """When the first of what it reads became public."""
    parent_id: Mapped[int | None] = mapped_column(Id, index=True)
    is_shared: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether somebody besides its parent has asked for it: it is not cancelled with its parent."""
    created_at: Mapped[datetime]
    begun_at: Mapped[datetime | None]
    """When it was first claimed; None again when it was given back with nothing of it read."""
    claimed_at: Mapped[datetime | None]
    """When the latest worker claimed it."""
    deadline_at: Mapped[datetime | None]
    """When the latest claim counts as hung, unless the job makes progress before."""
    finished_at: Mapped[datetime | None] = mapped_column(index=True)


class AuditEntry(Base):
    """Who did what, when, on what evidence. Only `records.audit` writes it: `hash` chains each entry to the one before.

    `nonce` keeps the hash of a removed entry from telling what the entry said.
    """

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("CURRENT_TIMESTAMP"), default=None)
    who: Mapped[str] = mapped_column(String(255), index=True)
    what: Mapped[str] = mapped_column(String(64), index=True)
    incident_id: Mapped[uuid.UUID | None] = mapped_column(index=True)
    evidence: Mapped[dict[str, Any]] = mapped_column(default=dict)
    nonce: Mapped[str] = mapped_column(String(32))
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditHead(Base):
    """Where the audit's chain ends and, once old entries were purged, after which entry it begins. One row."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    last_id: Mapped[int] = mapped_column(Id)
    last_hash: Mapped[str] = mapped_column(String(64))
    purged_id: Mapped[int] = mapped_column(Id)
    purged_hash: Mapped[str] = mapped_column(String(64))
    purged_count: Mapped[int] = mapped_column(Id)


class RemovedAuditEntry(Base):
    """The hashes of an entry that was removed with the data of an account; the database deletes no entry without it."""

    __tablename__ = "audit_removed"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


__all__ = [
    "Account",
    "Announcement",
    "ApiToken",
    "AuditEntry",
    "AuditHead",
    "Base",
    "Exposure",
    "Incident",
    "Notification",
    "NotificationSubject",
    "PlaceColumns",
    "Recipient",
    "RemovedAuditEntry",
    "ScanJob",
    "Sighting",
    "db_hour",
    "db_now",
]

"""The tables of accounts, tokens, incidents, notifications and jobs."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, MetaData, Row, Table, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from scanner.records.columns import Id, Json, String, Text, UtcDateTime, db_hour, db_now
from scanner.records.states import (
    Cause,
    Channel,
    Decision,
    IncidentState,
    JobKind,
    JobState,
    NotificationState,
    Occasion,
    SightingState,
    column_of,
)

MAX_REPOSITORY_KEY = 200
"""The number of characters of a repository's name that an index contains."""


TableRow = Row[*tuple[Any, ...]]
"""A row of a table. It has an attribute for each column."""


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy requires a class attribute
        datetime: UtcDateTime,
        str: Text,
        dict[str, Any]: Json,
        list[str]: Json,
        list[Any]: Json,
    }


def table_of(model: type[Base]) -> Table:
    """Return the table of a model, for statements that read rows and no objects.

    The status of the service is read with such statements only. For the first statement with a model, SQLAlchemy
    prepares all models, which takes longer than reading the rows.
    """
    table = model.__table__
    assert isinstance(table, Table)  # noqa: S101 - each model has one
    return table


class Account(Base):
    """A customer of the API vendor who owns tokens. `name` is the vendor's unique name for the account."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=None, server_default=text("CURRENT_TIMESTAMP"))
    recipients: Mapped[list[Recipient]] = relationship(
        back_populates="account", order_by="Recipient.id", cascade="all, delete-orphan"
    )


class Recipient(Base):
    """A mail address of an account. Each address gets its own copy of every mail to the account."""

    __tablename__ = "recipients"
    __table_args__ = (UniqueConstraint("account_id", "email"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    email: Mapped[str] = mapped_column(String(320))
    account: Mapped[Account] = relationship(back_populates="recipients")


class ApiToken(Base):
    """A token that the vendor issued, identified by its digest. It no longer works once `disabled_at` is set."""

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
    """One token that was found in public or reported. A token has at most one open incident.

    `action` says what r8scan did about the token. `evidence` lists the reports of the token under the key `signs`.
    """

    __tablename__ = "incidents"

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
    """When the call to the token store is due. Only used while `action` is `disabling`."""
    assignee: Mapped[str | None] = mapped_column(String(255))
    """The person who handles the incident, by the name in the console."""
    has_owner_mail: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether a mail to the owner was ever queued for the incident. A trigger sets it."""
    exposures: Mapped[list[Exposure]] = relationship(back_populates="incident", order_by="Exposure.id")


class PlaceColumns:
    """The columns that say where a token was found. No column may contain a raw token."""

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
    """A public place, such as a file or a commit, that contains the token of an incident."""

    __tablename__ = "exposures"
    __table_args__ = (UniqueConstraint("incident_id", "place_key"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    incident_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("incidents.id", ondelete="CASCADE"))
    seen_at: Mapped[datetime]
    detected_at: Mapped[datetime | None]
    """A copy of the incident's `detected_at`. A trigger writes it."""
    repository_key: Mapped[str | None] = mapped_column(String(MAX_REPOSITORY_KEY))
    """The beginning of `repository`, set by a trigger. The whole name may be too long for an index."""
    incident: Mapped[Incident] = relationship(back_populates="exposures")


class Sighting(PlaceColumns, Base):
    """A text in the form of a token that the token store has not confirmed."""

    __tablename__ = "sightings"
    __table_args__ = (UniqueConstraint("digest", "place_key"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    hint: Mapped[str] = mapped_column(String(16))
    state: Mapped[SightingState] = mapped_column(column_of(SightingState, 16))
    seen_at: Mapped[datetime]
    next_check_at: Mapped[datetime]


class Notification(Base):
    """A mail or other message in the outbox, to be sent.

    `facts` are the data of the message. `recipient` is a mail address, or None if the account has no address.
    `attempts` is the fencing token of the lease.
    """

    __tablename__ = "notifications"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    channel: Mapped[Channel] = mapped_column(column_of(Channel, 32))
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
    """An incident that a notification reports, at most once to a recipient for the same reason."""

    __tablename__ = "notification_subjects"
    __table_args__ = (UniqueConstraint("incident_id", "channel", "merge_key", "occasion"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    notification_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("notifications.id", ondelete="CASCADE"), index=True)
    incident_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("incidents.id", ondelete="CASCADE"))
    channel: Mapped[Channel] = mapped_column(column_of(Channel, 32))
    merge_key: Mapped[str] = mapped_column(String(400))
    occasion: Mapped[Occasion] = mapped_column(column_of(Occasion, 64))
    detected_at: Mapped[datetime | None]
    """A copy of the incident's `detected_at`. A trigger writes it."""
    mail_state: Mapped[str | None] = mapped_column(String(16))
    """`sent` or `failed` if that is the notification's state, otherwise `waiting`. A trigger writes it."""
    notification: Mapped[Notification] = relationship(back_populates="subjects")
    incident: Mapped[Incident] = relationship()


class ScanJob(Base):
    """A unit of work for a worker: a list of `pushes`, a `repository` with its whole history, a `gist` and so on.

    `attempts` is the fencing token of the lease. `failures` counts the claims since the last progress. Until `begun_at`
    is set, further requests with the same `dedupe_key` use this job.
    """

    __tablename__ = "scan_jobs"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    kind: Mapped[JobKind] = mapped_column(column_of(JobKind, 32))
    source: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int] = mapped_column(default=100)
    items: Mapped[int] = mapped_column(default=1, server_default="1")
    """How many pushes or files the job reads; 1 for every other kind."""
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
    """When the oldest item that the job reads became public."""
    parent_id: Mapped[int | None] = mapped_column(Id)
    is_shared: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether an operator or another job has also asked for this job. If so, it is not cancelled with its parent."""
    created_at: Mapped[datetime]
    begun_at: Mapped[datetime | None]
    """When the job was first claimed. None again if it was requeued before anything was read."""
    claimed_at: Mapped[datetime | None]
    """When a worker last claimed the job."""
    deadline_at: Mapped[datetime | None]
    """When the latest claim counts as hung, unless the job makes progress before that."""
    finished_at: Mapped[datetime | None] = mapped_column(index=True)


__all__ = [
    "Account",
    "ApiToken",
    "Base",
    "Exposure",
    "Incident",
    "Notification",
    "NotificationSubject",
    "PlaceColumns",
    "Recipient",
    "ScanJob",
    "Sighting",
    "TableRow",
    "db_hour",
    "db_now",
    "table_of",
]

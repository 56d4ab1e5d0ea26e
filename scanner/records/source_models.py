"""The tables of sources: read positions, what was read and missed, counters, and the quotas of GitHub credentials."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import Id, String, Text
from scanner.records.models import Base


class SourceState(Base):
    """The state of a source, such as its read position, the time of its next poll and the number of failures."""

    __tablename__ = "source_states"

    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    cursor: Mapped[dict[str, Any]] = mapped_column(default=dict)
    next_poll_at: Mapped[datetime]
    leased_until: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]
    """When the latest poll began."""
    deadline_at: Mapped[datetime | None]
    """When the latest poll counts as hung."""
    attempts: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    last_success_at: Mapped[datetime | None]
    newest_seen_at: Mapped[datetime | None]
    gaps: Mapped[int] = mapped_column(default=0)
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[str | None] = mapped_column(Text)


class RepositoryTips(Base):
    """The newest commits of a repository that need not be read again.

    Attributes:
        tips: For each of these commits, one byte of flags and the commit's id; see `scanner.sources.pushes.tips`.
        pushed_at: The time of the newest push that r8scan has read.
        refs_listed_at: When all branches and tags were last compared with `tips`.
    """

    __tablename__ = "repository_tips"

    host: Mapped[str] = mapped_column(String(100), primary_key=True)
    repository_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    tips: Mapped[bytes] = mapped_column(LargeBinary)
    is_whole: Mapped[bool]
    pushed_at: Mapped[datetime | None]
    refs_listed_at: Mapped[datetime | None]
    read_at: Mapped[datetime] = mapped_column(index=True)


class ReadObject(Base):
    """An immutable object that was read completely: a git blob, a version of a gist or an hour of the event archive.

    `hits` lists the texts in the object that look like tokens, as JSON, or is None.
    """

    __tablename__ = "read_objects"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    key: Mapped[str] = mapped_column(String(160), primary_key=True)
    hits: Mapped[list[Any] | None]
    read_at: Mapped[datetime] = mapped_column(index=True)


class SeenEvent(Base):
    """An event that r8scan has read from GitHub's public events or from an archive of them."""

    __tablename__ = "seen_events"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(index=True)


class Gap(Base):
    """A span of time in which a source missed events. `estimated` is an estimate of their number."""

    __tablename__ = "gaps"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    source: Mapped[str] = mapped_column(String(64), index=True)
    from_at: Mapped[datetime]
    until_at: Mapped[datetime] = mapped_column(index=True)
    estimated: Mapped[int]
    reason: Mapped[str] = mapped_column(String(32))
    found_at: Mapped[datetime]
    filled_at: Mapped[datetime | None]


class Tally(Base):
    """A counter of one source in one hour (UTC), such as the pushes scanned or dropped."""

    __tablename__ = "tallies"

    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True, index=True)
    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    count: Mapped[int] = mapped_column(Id)


class BudgetState(Base):
    """The quota of one credential for one GitHub resource: the number of remaining requests, and when it is reset.

    No request may be sent before `blocked_until`.
    """

    __tablename__ = "budgets"

    credential: Mapped[str] = mapped_column(String(160), primary_key=True)
    resource: Mapped[str] = mapped_column(String(32), primary_key=True)
    limit: Mapped[int] = mapped_column(Id)
    remaining: Mapped[int] = mapped_column(Id)
    resets_at: Mapped[datetime | None]
    blocked_until: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(String(32))
    updated_at: Mapped[datetime]


class ResourceRate(Base):
    """The rate at which all workers together may send requests, for a resource without a published limit."""

    __tablename__ = "resource_rates"

    credential: Mapped[str] = mapped_column(String(160), primary_key=True)
    resource: Mapped[str] = mapped_column(String(32), primary_key=True)
    per_second: Mapped[float] = mapped_column(Float)
    next_slot_at: Mapped[datetime | None]
    asked: Mapped[int] = mapped_column(default=0)
    window_began_at: Mapped[datetime | None]
    measured_per_second: Mapped[float] = mapped_column(Float, default=0.0)
    refusals: Mapped[int] = mapped_column(Id, default=0)
    refused_at: Mapped[datetime | None]


class CircuitState(Base):
    """The circuit breaker of one host. Until `open_until`, no request is sent to the host."""

    __tablename__ = "circuits"

    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    failures: Mapped[int]
    open_until: Mapped[datetime | None]
    updated_at: Mapped[datetime]


class UnreadContent(Base):
    """A document that was not read completely: the reasons, its SHA-256 and its redacted address."""

    __tablename__ = "unread_contents"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    source: Mapped[str] = mapped_column(String(64))
    # Not a foreign key, because the row is kept when its job is deleted.
    job_id: Mapped[int | None] = mapped_column(Id, index=True)
    reasons: Mapped[str] = mapped_column(String(200))
    content_digest: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    place: Mapped[dict[str, Any]]
    seen_at: Mapped[datetime] = mapped_column(index=True)

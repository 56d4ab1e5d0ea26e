"""The tables of sources: read positions, gaps, counters, recall, and the quotas of GitHub credentials."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Float
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


class RecallMeasurement(Base):
    """The latest measurement of a source's recall: the share of the other sources' pushes that this source saw as well.

    `shares` maps a delay in seconds to four numbers: all pushes, the pushes seen within the delay, and the bounds of
    the share's 95 % confidence interval. `total` is the estimated number of pushes in a day with its bounds, or empty.
    """

    __tablename__ = "recall_measurements"

    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    shares: Mapped[dict[str, Any]]
    total: Mapped[list[Any]]
    measured_at: Mapped[datetime]

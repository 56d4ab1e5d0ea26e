"""The tables of signs of compromise: reports, the brake, usage by the hour, and rates of public requests."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import Id, Json, String, Text
from scanner.records.models import Base
from scanner.records.states import Decision, ReportState, Wanted, column_of


class Report(Base):
    """Somebody's or a rule's word that a token is in wrong hands; written before anything is done about it.

    `decision` is what was done: the incident's action, or `flagged`. The same `sign` and `idempotency_key` say the same
    thing again.
    `is_braked`: whether it counts for the brake and is held by it. `url` is where the token stands in public, if told.
    """

    __tablename__ = "reports"
    __table_args__ = (
        UniqueConstraint("digest", "sign", "idempotency_key"),
        Index("ix_reports_state_next_check_at", "state", "next_check_at"),
        Index("ix_reports_decision_decided_at", "decision", "decided_at"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    hint: Mapped[str] = mapped_column(String(16), default="")
    sign: Mapped[str] = mapped_column(String(40))
    idempotency_key: Mapped[str] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(Text, default="")
    reporter: Mapped[str] = mapped_column(String(64))
    url: Mapped[str] = mapped_column(Text, default="")
    wanted: Mapped[Wanted] = mapped_column(column_of(Wanted, 16), default=Wanted.DISABLE)
    is_braked: Mapped[bool] = mapped_column(Boolean, default=True)
    evidence: Mapped[dict[str, Any]] = mapped_column(default=dict)
    received_at: Mapped[datetime] = mapped_column(index=True)
    state: Mapped[ReportState] = mapped_column(column_of(ReportState, 16), default=ReportState.RECEIVED)
    next_check_at: Mapped[datetime]
    decision: Mapped[Decision] = mapped_column(column_of(Decision, 32), default=Decision.UNDECIDED)
    decided_at: Mapped[datetime | None]
    incident_id: Mapped[uuid.UUID | None]


class Brake(Base):
    """One row: whether disables by report or rule wait for an operator, since when and why."""

    __tablename__ = "brake"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    closed_at: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text, default="")


class UsageHour(Base):
    """How a token was used within one hour (UTC). Lists are sorted and bounded; `unkept` counts what they left out."""

    __tablename__ = "usage_hours"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True, index=True)
    count: Mapped[int] = mapped_column(Id, default=0)
    listed: Mapped[int] = mapped_column(Id, default=0)
    networks: Mapped[list[str]] = mapped_column(Json, default=list)
    countries: Mapped[list[str]] = mapped_column(Json, default=list)
    agents: Mapped[list[str]] = mapped_column(Json, default=list)
    listed_networks: Mapped[list[str]] = mapped_column(Json, default=list)
    unkept: Mapped[dict[str, Any]] = mapped_column(default=dict)


class UsageBaseline(Base):
    """A token's own history: `hour` is the newest active one, with `hour_count`; the rest tells of those before it."""

    __tablename__ = "usage_baselines"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    hour: Mapped[datetime | None] = mapped_column(index=True)
    hour_count: Mapped[int] = mapped_column(Id, default=0)
    previous_hour: Mapped[datetime | None]
    hours: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(Id, default=0)
    peak: Mapped[int] = mapped_column(Id, default=0)


class RequestRate(Base):
    """How many public requests one client prefix (or `*`: everybody) has made in its present minute."""

    __tablename__ = "request_rates"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    minute: Mapped[datetime] = mapped_column(index=True)
    count: Mapped[int] = mapped_column(default=0)


__all__ = ["Brake", "Report", "RequestRate", "UsageBaseline", "UsageHour"]

"""The tables for reports of compromised tokens, for the disable quota and for anonymous requests."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import Id, String, Text
from scanner.records.models import Base
from scanner.records.states import Decision, ReportState, RequestedAction, column_of


class Report(Base):
    """A statement by a person or a usage rule that a token is compromised.

    `sign` is what was observed. `decision` is what r8scan decided about the token. `is_braked` says whether the report
    counts towards the disable quota. `url` is where the token was found, if known.
    """

    __tablename__ = "reports"
    __table_args__ = (UniqueConstraint("digest", "sign", "idempotency_key"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    hint: Mapped[str] = mapped_column(String(16), default="")
    sign: Mapped[str] = mapped_column(String(40))
    idempotency_key: Mapped[str] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(Text, default="")
    reporter: Mapped[str] = mapped_column(String(64))
    url: Mapped[str] = mapped_column(Text, default="")
    wanted: Mapped[RequestedAction] = mapped_column(column_of(RequestedAction, 16), default=RequestedAction.DISABLE)
    is_braked: Mapped[bool] = mapped_column(Boolean, default=True)
    evidence: Mapped[dict[str, Any]] = mapped_column(default=dict)
    received_at: Mapped[datetime] = mapped_column(index=True)
    state: Mapped[ReportState] = mapped_column(column_of(ReportState, 16), default=ReportState.RECEIVED)
    next_check_at: Mapped[datetime]
    decision: Mapped[Decision] = mapped_column(column_of(Decision, 32), default=Decision.UNDECIDED)
    decided_at: Mapped[datetime | None]
    incident_id: Mapped[uuid.UUID | None]


class Brake(Base):
    """The state of the disable quota, in one row: since when and why further disables wait for an operator."""

    __tablename__ = "brake"

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    closed_at: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text, default="")


class RequestRate(Base):
    """The number of anonymous requests from one network in one minute. The key `*` stands for all clients."""

    __tablename__ = "request_rates"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    minute: Mapped[datetime] = mapped_column(index=True)
    count: Mapped[int] = mapped_column(default=0)

"""The tables of the service's health: heartbeats, problems that the operator was told about, and refused messages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Float
from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import String, Text
from scanner.records.models import Base


class Heartbeat(Base):
    """The heartbeat of a process of the service.

    `seen_at` is when the process last made progress with its tasks, by the database's clock.
    """

    __tablename__ = "heartbeats"

    role: Mapped[str] = mapped_column(String(32), primary_key=True)
    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    pid: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    queues: Mapped[str] = mapped_column(Text, default="")
    """Names of the queues that the process consumes, separated by commas."""
    version: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(index=True)
    clock_ahead_seconds: Mapped[float | None] = mapped_column(Float)
    """By how many seconds the clock of the process's host was ahead of the database's clock."""


class NotifiedProblem(Base):
    """A current problem of the service. `told_at` is when the operator was notified, or None."""

    __tablename__ = "told_problems"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    sentence: Mapped[str] = mapped_column(Text)
    todo: Mapped[str] = mapped_column(Text)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    told_at: Mapped[datetime | None]


class RefusingChannel(Base):
    """A channel to the operator that refuses messages, for example `slack`, with the messages to send again.

    `first_at` and `last_at` are the times of its first and last refusal.
    """

    __tablename__ = "refusing_channels"

    channel: Mapped[str] = mapped_column(String(32), primary_key=True)
    error: Mapped[str] = mapped_column(Text)
    """The reason of the last refusal."""
    messages: Mapped[list[Any]]
    """The fields of each message, oldest first."""
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]


__all__ = ["Heartbeat", "NotifiedProblem", "RefusingChannel"]

"""The tables for how tokens are used: the current hours, the earlier history, and the batches of usage records."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import Id, Json, String
from scanner.records.models import Base


class UsageHour(Base):
    """How often, and from where, one token was used in one hour (UTC).

    `unkept` counts the values that are missing in the lists, such as `networks`, because a list was full.
    """

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
    """The usage history of a token.

    `hour` is the newest hour with requests, and `hour_count` is the number of requests in that hour. The other columns
    summarize the earlier hours.
    """

    __tablename__ = "usage_baselines"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    hour: Mapped[datetime | None] = mapped_column(index=True)
    hour_count: Mapped[int] = mapped_column(Id, default=0)
    previous_hour: Mapped[datetime | None]
    hours: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(Id, default=0)
    peak: Mapped[int] = mapped_column(Id, default=0)


class UsageBatch(Base):
    """How much of a batch of usage records has been stored. `cursor` is the beginning of the last stored digest."""

    __tablename__ = "usage_batches"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    cursor: Mapped[str] = mapped_column(String(8))
    begun_at: Mapped[datetime] = mapped_column(index=True)

"""The tables of sources that list repositories: what is asked for once more, and what waits for its first push."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import Id, String
from scanner.records.models import Base


class SearchWindow(Base):
    """A span of time that repository search was asked for, and is asked for again.

    `start` and `end`: seconds since the epoch, both included. `seen`: the ids of the repositories that it showed, 8
    bytes each. `total`: GitHub's count at the latest look. `looks`: later looks so far.
    """

    __tablename__ = "search_windows"

    start: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    end: Mapped[int] = mapped_column(Id)
    number: Mapped[int]
    looks: Mapped[int] = mapped_column(default=0)
    total: Mapped[int]
    seen: Mapped[bytes] = mapped_column(LargeBinary)
    first_look_at: Mapped[datetime]
    next_look_at: Mapped[datetime] = mapped_column(index=True)


class NewRepository(Base):
    """A new public repository whose first push was not seen yet. `node_id`: its id in GraphQL. `looks`: so far."""

    __tablename__ = "new_repositories"

    repository_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    node_id: Mapped[str] = mapped_column(String(200))
    looks: Mapped[int] = mapped_column(default=0)
    listed_at: Mapped[datetime]
    next_look_at: Mapped[datetime] = mapped_column(index=True)


class PushMark(Base):
    """A push that a source has seen, of a sample of all repositories: a mark for the other sources."""

    __tablename__ = "push_marks"

    repository_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    pushed_at: Mapped[datetime] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(index=True)
    is_new: Mapped[bool]


class RecallMeasurement(Base):
    """What a source has seen of the pushes that other sources saw, at the latest measurement.

    `shares`: by seconds from the push: marks, seen, and the bounds of the 95 % interval of the share. `total`: pushes
    of a day, estimated, with the bounds of its interval; empty where it cannot be estimated.
    """

    __tablename__ = "recall_measurements"

    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    shares: Mapped[dict[str, Any]]
    total: Mapped[list[Any]]
    measured_at: Mapped[datetime]

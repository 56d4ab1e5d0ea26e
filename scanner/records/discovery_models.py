"""The tables for repository search, for new repositories, and for the sample of pushes that measures recall."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import Id, String
from scanner.records.models import Base


class SearchWindow(Base):
    """A range of push times that repository search has searched and will search again.

    `start` and `end` are seconds since the epoch, both included. `seen` has the ids of the repositories that were
    found, 8 bytes each. `total` is GitHub's count of results. `looks` counts the searches after the first.
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
    """A new public repository to which nobody has pushed yet. `node_id` is its id in GraphQL."""

    __tablename__ = "new_repositories"

    repository_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    node_id: Mapped[str] = mapped_column(String(200))
    looks: Mapped[int] = mapped_column(default=0)
    listed_at: Mapped[datetime]
    next_look_at: Mapped[datetime] = mapped_column(index=True)


class PushMark(Base):
    """A push in one of the sampled repositories, and the source that saw it."""

    __tablename__ = "push_marks"

    repository_id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    pushed_at: Mapped[datetime] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(index=True)
    is_new: Mapped[bool]

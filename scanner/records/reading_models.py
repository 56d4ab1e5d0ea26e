"""The tables of what was read and need not be read again, and of what could not be read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import Id, String
from scanner.records.models import Base


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

"""The table of announcements: the disabled tokens that API gateways must forget."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import Id, String
from scanner.records.models import Base
from scanner.records.states import Cause, column_of


class Announcement(Base):
    """A disabled token, announced to gateways that cache authentications. Ids only grow and are never reused.

    `incident_id` is None if an operator disabled the token with the command line.
    """

    __tablename__ = "announcements"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy requires a class attribute

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    token_id: Mapped[str] = mapped_column(String(64))
    cause: Mapped[Cause] = mapped_column(column_of(Cause, 32))
    # Not a foreign key, because announcements are kept when their incident is deleted.
    incident_id: Mapped[uuid.UUID | None] = mapped_column(unique=True)
    disabled_at: Mapped[datetime]
    announced_at: Mapped[datetime] = mapped_column(index=True)

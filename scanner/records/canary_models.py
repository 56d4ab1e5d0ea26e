"""The table of canary tokens: where each was planted, when it was disabled, and which source found it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from scanner.records.columns import Id, String, Text
from scanner.records.models import Base
from scanner.records.states import CanaryState, CanaryWay, Decision, column_of


class Canary(Base):
    """A token that r8scan plants in public to prove that it finds leaks. The row never contains the raw token.

    Attributes:
        slot: The number of the planting interval, or a negative number if an operator asked for the canary.
        digest: None before the token is generated.
        place: The public URL of the token.
        source: The source that saw the token first.
    """

    __tablename__ = "canaries"
    __table_args__ = (UniqueConstraint("way", "slot"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    way: Mapped[CanaryWay] = mapped_column(column_of(CanaryWay, 16))
    slot: Mapped[int] = mapped_column(Id)
    state: Mapped[CanaryState] = mapped_column(column_of(CanaryState, 16))
    digest: Mapped[str | None] = mapped_column(String(64), unique=True)
    place: Mapped[str] = mapped_column(Text, default="")
    planted_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    decision: Mapped[Decision | None] = mapped_column(column_of(Decision, 32))
    source: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(Text)

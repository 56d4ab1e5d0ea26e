"""Helpers for tests of mail delivery."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from sqlalchemy import select

from notifications.email.transport import (
    Envelope,
)
from scanner.records.database import Database
from scanner.records.models import db_now
from tests.notifications.outbox_rows import (
    Post,
    row,
)


def seconds_until_next(database: Database, notification_id: uuid.UUID) -> float:
    with database.read() as session:
        now = session.execute(select(db_now())).scalar_one()
    return (row(database, notification_id).next_attempt_at - now).total_seconds()


class Doing(Post):
    """A mail transport that calls a function just before it accepts mail number `number`, counted from 1."""

    def __init__(self, number: int, do: Callable[[Envelope], None]) -> None:
        super().__init__()
        self._number, self._do = number, do

    def send(self, envelope: Envelope, *, deadline: float) -> None:
        if len(self.tried) + 1 == self._number:
            self._do(envelope)
        super().send(envelope, deadline=deadline)

"""Helpers for tests with a remote token store (HTTP)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import select, update

from scanner.detection import Candidate, Place
from scanner.records.database import Database
from scanner.records.models import Incident, Notification, Sighting, db_now
from scanner.tokens.http import HttpStore
from scanner.tokens.protocol import Disabled, LookUp, StoreUnavailable

DIGEST = "a" * 64


class Away(HttpStore):
    """A client of the remote token store. The calls in `away` fail."""

    def __init__(self, url: str, secret: str) -> None:
        super().__init__(url, secret)
        self.away: set[str] = set()

    def look_up(self, digests: Collection[str]) -> LookUp:
        if "look_up" in self.away:
            raise StoreUnavailable("the token store answered 503")
        return super().look_up(digests)

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        if "disable" in self.away:
            raise StoreUnavailable("the token store answered 503")
        return super().disable(digest, key=key, reason=reason, cause=cause)


def candidate(path: str = "a.py") -> Candidate:
    place = Place("file", url="https://github.com/ana/app", repository="ana/app", path=path)
    return Candidate(DIGEST, "r8_Ab1…xyz9", place)


def incidents(database: Database) -> list[Incident]:
    with database.read() as session:
        return list(session.execute(select(Incident)).scalars())


def mails(database: Database) -> list[Any]:
    with database.read() as session:
        return list(session.execute(select(Notification.channel, Notification.recipient)))


def due_now(database: Database) -> None:
    with database.write() as session:
        session.execute(update(Incident).values(next_attempt_at=db_now(), leased_until=None))
        session.execute(update(Sighting).values(next_check_at=db_now()))

"""Tests that only a limited number of sightings is stored. A sighting is a found string that may be a token."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import func, select, update

from scanner.detection import Candidate, Place
from scanner.records.database import Database
from scanner.records.models import Sighting, db_now
from scanner.records.states import SightingState
from scanner.response import sightings


def record(
    database: Database, repository: str, count: int, state: SightingState = SightingState.UNKNOWN, source: str = "test"
) -> list[str]:
    """Record sightings of `count` invented tokens in one repository. Return their digests."""
    digests = [hashlib.sha256(f"{repository} {state} {number}".encode()).hexdigest() for number in range(count)]
    place = Place("file", url=f"https://github.com/{repository}", repository=repository, path="a.py")
    with database.write() as session:
        sightings.record(session, [Candidate(digest, "", place) for digest in digests], source=source, state=state)
    return digests


def shed(database: Database, max_rows: int) -> dict[str, int]:
    with database.write() as session:
        return sightings.shed(session, max_rows=max_rows)


def kept(database: Database) -> dict[tuple[str | None, str], int]:
    with database.read() as session:
        statement = select(Sighting.repository, Sighting.state, func.count()).group_by(
            Sighting.repository, Sighting.state
        )
        return {(repository, state): count for repository, state, count in session.execute(statement)}


def test_below_the_limit_nothing_is_dropped(database: Database) -> None:
    assert shed(database, 1) == {}
    record(database, "ana/app", 5)
    assert shed(database, 5) == {}
    assert kept(database) == {("ana/app", "unknown"): 5}


def test_a_flood_from_one_repository_is_dropped_before_sightings_of_others(database: Database) -> None:
    record(database, "ana/app", 2)
    record(database, "evil/flood", 20, source="gists")
    record(database, "bo/app", 3)
    assert shed(database, 10) == {"gists": 15}
    assert kept(database) == {("ana/app", "unknown"): 2, ("evil/flood", "unknown"): 5, ("bo/app", "unknown"): 3}


def test_the_oldest_sightings_of_a_repository_are_dropped_first(database: Database) -> None:
    old, new = record(database, "evil/flood", 6)[:3], record(database, "evil/flood", 6)[3:]
    with database.write() as session:
        session.execute(update(Sighting).where(Sighting.digest.in_(old)).values(seen_at=db_now(-3600)))
    assert shed(database, 3) == {"test": 3}
    with database.read() as session:
        assert set(session.execute(select(Sighting.digest)).scalars()) == set(new)


def test_unchecked_sightings_are_dropped_last(database: Database) -> None:
    record(database, "evil/flood", 10, state=SightingState.UNCHECKED)
    record(database, "ana/app", 3)
    assert shed(database, 10) == {"test": 3}
    assert kept(database) == {("evil/flood", "unchecked"): 10}
    assert shed(database, 8) == {"test": 2}
    assert kept(database) == {("evil/flood", "unchecked"): 8}


def test_one_transaction_drops_a_limited_number_of_sightings(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "MAX_SHED_ROWS", 4)
    record(database, "evil/flood", 10)
    assert [shed(database, 1) for _ in range(4)] == [{"test": 4}, {"test": 4}, {"test": 1}, {}]


def test_a_sighting_that_is_recorded_twice_is_one_row(database: Database) -> None:
    record(database, "ana/app", 3)
    record(database, "ana/app", 3)
    assert kept(database) == {("ana/app", "unknown"): 3}

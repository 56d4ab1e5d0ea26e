"""Tests for the status of sources, for example how far a source is behind."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from scanner.github.circuits import CANNOT_BE_REACHED
from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.source_models import CircuitState, RecallMeasurement, SourceState
from scanner.settings import load_settings
from scanner.sources.new_repositories.listing import ListPosition
from scanner.sources.repository_search.windows import Plan
from scanner.sources.timeline.pages import Cursor
from tests.workers.health.alive import seen
from workers.health.overview import overview
from workers.health.problems import Kind

API_HOST = "api.github.com"
PLAN = Plan(until=1000, settle=72.5, behind=[(100, 199), (300, 349)], compared=(700, 701)).to_json()
PLACE = ListPosition(newest=9000, owed=[(7000, 8000)]).to_json()


@pytest.mark.parametrize(
    ("source", "cursor", "shown"),
    [
        ("repository_search", PLAN, {"settle": 72.5, "seconds_behind": 150, "compared": [700, 701]}),
        ("new_repositories", PLACE, {"newest": 9000, "ids_behind": 1000}),
        ("public_events", Cursor(interval=60.0).to_json(), {"poll_interval": 60.0}),
        ("gists", {"known": []}, {}),
    ],
)
def test_a_cursor_is_shown_if_it_says_more_than_the_counts(
    database: Database, tmp_path: Path, source: str, cursor: dict[str, Any], shown: dict[str, Any]
) -> None:
    with database.write() as session:
        session.add(SourceState(source=source, cursor=cursor, next_poll_at=db_now(60), last_success_at=db_now()))
    (row,) = overview(database, load_settings(state_dir=tmp_path, sources=[source])).sources
    assert {key: row.cursor[key] for key in shown} == shown
    assert bool(row.cursor) == bool(shown)


def test_a_clock_that_differs_from_githubs_is_reported_with_its_direction(database: Database, tmp_path: Path) -> None:
    cursor = {"clock_seconds": 86_400}
    with database.write() as session:
        state = SourceState(source="public_events", cursor=cursor, next_poll_at=db_now(60), last_success_at=db_now())
        session.add(state)
    found = overview(database, load_settings(state_dir=tmp_path, sources=["public_events"]))
    (told,) = [one for one in found.problems if one.kind == Kind.CLOCK_OFF]
    assert told.sentence == "the poller's clock is 24 hours behind GitHub's"


@pytest.mark.parametrize(
    ("source", "share", "is_told"),
    [
        ("repository_search", [200, 104, 0.45, 0.59], True),
        ("new_repositories", [60, 30, 0.38, 0.62], True),
        ("repository_search", [200, 190, 0.91, 0.97], False),
        ("repository_search", [40, 10, 0.14, 0.4], False),  # too few measured pushes
        ("public_events", [900, 20, 0.01, 0.03], False),  # the event timeline never shows all pushes
    ],
)
def test_a_source_that_shows_too_little_of_what_others_showed_is_a_problem(
    database: Database, tmp_path: Path, source: str, share: list[float], is_told: bool
) -> None:
    with database.write() as session:
        session.add(SourceState(source=source, cursor={}, next_poll_at=db_now(60), last_success_at=db_now()))
        session.add(RecallMeasurement(source=source, shares={"3600": share}, total=[], measured_at=db_now()))
    found = overview(database, load_settings(state_dir=tmp_path, sources=[source]))
    told = [one.sentence for one in found.problems if one.kind == Kind.SOURCE_INCOMPLETE]
    assert bool(told) is is_told
    assert all(f"{100 * share[2]:.0f} to {100 * share[3]:.0f} %" in one for one in told)


def _silences(database: Database, state_dir: Path, *sources: str, seconds: float) -> list[str]:
    """Return the status's sentences about silent sources, `seconds` after the start of the service."""
    with database.write() as session:
        seen(session, age_seconds=seconds)
    found = overview(database, load_settings(state_dir=state_dir, sources=list(sources)))
    return [one.sentence for one in found.problems if one.kind == Kind.SOURCE_SILENT]


def test_a_service_of_which_no_poll_has_ended_has_a_problem_a_minute_after_its_start(
    database: Database, tmp_path: Path
) -> None:
    told = partial(_silences, database, tmp_path, "gists", "public_events")
    assert told(seconds=50) == []
    assert told(seconds=70) == ["no poll of a source has ended in the 70 s since the start"]
    with database.write() as session:
        session.add(SourceState(source="gists", cursor={}, next_poll_at=db_now(-1)))
    assert told(seconds=70) == ["no poll of a source has ended in the 70 s since the start"], "a poll has begun"
    with database.write() as session:
        session.execute(update(SourceState).values(error="api.github.com cannot be reached"))
    assert told(seconds=70) == [], "the error is a problem of its own"


def test_a_service_that_starts_after_a_pause_has_ten_minutes_for_the_poll_of_each_source(
    database: Database, tmp_path: Path
) -> None:
    told = partial(_silences, database, tmp_path, "gists")
    with database.write() as session:
        session.add(SourceState(source="gists", cursor={}, next_poll_at=db_now(-7200), last_success_at=db_now(-7200)))
    assert told(seconds=5) == []
    assert told(seconds=700) == ["gists: not polled for more than 10 minutes"]


def test_a_host_that_is_no_longer_asked_is_no_problem(database: Database, tmp_path: Path) -> None:
    def told() -> list[str]:
        found = overview(database, load_settings(state_dir=tmp_path)).problems
        return [one.sentence for one in found if one.kind == Kind.HOST_FAILS]

    with database.write() as session:
        session.add(CircuitState(host="api.githb.com", failures=10, open_until=db_now(50), updated_at=db_now()))
    assert told() == ["api.githb.com does not answer (10 failures in a row)"]
    with database.write() as session:
        session.execute(update(CircuitState).values(updated_at=db_now(-700), open_until=db_now(-640)))
    assert told() == []


def test_github_is_away_if_it_did_not_respond_to_a_poll_that_began_after_the_latest_success(
    database: Database, tmp_path: Path
) -> None:
    def is_away(**values: object) -> bool:
        with database.write() as session:
            session.execute(update(SourceState).where(SourceState.source == "gists").values(**values))
        return overview(database, load_settings(state_dir=tmp_path, sources="gists,public_events")).is_github_away

    with database.write() as session:
        for name in ("gists", "public_events"):
            session.add(SourceState(source=name, cursor={}, next_poll_at=db_now(40), last_success_at=db_now(-20)))
    assert not is_away(error=None)
    no_response = f"{API_HOST} {CANNOT_BE_REACHED} (ReadTimeout)"
    assert is_away(claimed_at=db_now(-19), error=no_response)
    assert not is_away(claimed_at=db_now(-21)), "another source was polled since"
    assert not is_away(claimed_at=db_now(-19), error=f"gist.github.com {CANNOT_BE_REACHED} (ReadTimeout)")
    assert not is_away(error=f"{API_HOST} answered 502")
    with database.write() as session:
        session.add(CircuitState(host=API_HOST, failures=10, open_until=db_now(50), updated_at=db_now()))
    assert is_away(error=f"{API_HOST} answered 502"), "no request was answered since the circuit breaker opened"

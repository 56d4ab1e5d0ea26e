"""Tests of the stored samples of pushes that each source saw."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select

from scanner.records.database import Database
from scanner.records.discovery_models import PushMark
from scanner.records.source_models import RecallMeasurement
from scanner.settings import load_settings
from scanner.sources.pushes.discovered import DiscoveredPush, queue_discovered
from scanner.sources.recall import marks
from scanner.sources.recall.marks import SAMPLE
from scanner.sources.timeline.event_jobs import enqueue_found
from scanner.sources.timeline.events import Found, parse_event, read_events
from workers.health.overview import overview


def event(repository_id: int, at: datetime) -> Found:
    parsed = parse_event(
        {
            "id": str(repository_id),
            "type": "PushEvent",
            "repo": {"id": repository_id, "name": f"ana/app{repository_id}"},
            "payload": {"ref": "refs/heads/main", "head": "1" * 40, "before": "2" * 40},
            "created_at": at.isoformat(),
        }
    )
    assert parsed is not None
    return read_events([parsed], "https://github.example")


def test_each_source_is_measured_by_the_others_and_the_status_shows_it(database: Database, tmp_path: Path) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=2)
    with database.write() as session:
        for number in range(1, 41):
            enqueue_found(session, event(number * SAMPLE, at))
        seen = [DiscoveredPush(number * SAMPLE, f"ana/app{number}", at, is_new=number <= 10) for number in range(31)]
        queue_discovered(session, seen[1:], source="repository_search")
        queue_discovered(session, seen[1:6], source="new_repositories")
    with database.write() as session:
        marks.measure(session)
        rows = {row.source: row for row in session.execute(select(RecallMeasurement)).scalars()}
    # Repository search saw none of these 45 pushes within 60 seconds.
    assert rows["repository_search"].shares["60"][:2] == [45, 0]
    assert rows["new_repositories"].shares["60"][0] == 10
    estimate, low, high = rows["repository_search"].total
    assert low <= estimate <= high
    assert estimate == 40 * SAMPLE
    shown = overview(database, load_settings(state_dir=tmp_path, sources=["repository_search"])).sources
    row = next(one for one in shown if one.source == "repository_search")
    assert list(row.recall["60"][:2]) == [45, 0]
    assert list(row.total) == [estimate, low, high]


def test_only_a_sample_is_kept_and_forgotten_after_a_day(database: Database) -> None:
    now = datetime.now(UTC)
    with database.write() as session:
        marks.record(session, "repository_search", ((number, now, False) for number in range(1, 10 * SAMPLE)))
        marks.record(session, "repository_search", [(None, now, False), (SAMPLE, None, False), (SAMPLE, now, False)])
        assert session.execute(select(func.count()).select_from(PushMark)).scalar_one() == 9
        marks.purge_expired(session)
        assert session.execute(select(func.count()).select_from(PushMark)).scalar_one() == 9
        for row in session.execute(select(PushMark)).scalars():
            row.seen_at = now - timedelta(days=2)
    with database.write() as session:
        marks.purge_expired(session)
        assert session.execute(select(func.count()).select_from(PushMark)).scalar_one() == 0

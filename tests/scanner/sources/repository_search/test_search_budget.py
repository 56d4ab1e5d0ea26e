"""Tests that skipped push times are searched later, or recorded as missed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select
from starlette.responses import JSONResponse

from scanner.github.client import connect
from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.settings import load_settings
from scanner.sources.repository_search import windows
from tests.scanner.sources.repository_search.searching import SOURCE, Searching, only_sqlite
from workers.health import sources
from workers.sandbox.github import SandboxGitHub


@pytest.fixture
def second(sandbox: SandboxGitHub, upgraded_sqlite: Path, tmp_path: Path) -> Iterator[Searching]:
    """Yield the repository search of a second installation with the same credential."""
    shutil.copy(upgraded_sqlite, tmp_path / "second.db")
    with (
        closing(Database(f"sqlite:///{tmp_path / 'second.db'}")) as database,
        closing(connect(sandbox.api_url, sandbox.url, "a-credential")) as client,
    ):
        yield Searching(database, sandbox, client)


@only_sqlite
def test_the_rest_api_searches_when_the_graphql_points_are_spent(search: Searching) -> None:
    search.poll()
    search.push("ana/app")
    limited = {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}
    search.sandbox.faults["graphql"].append(lambda: JSONResponse(limited, headers={"Retry-After": "3000"}))
    search.poll_for(300, every=15)
    [push] = search.queued()
    assert (push.repository, push.head, push.kind) == ("ana/app", "", "push")
    assert search.state.counts["rest_requests"] > 0
    assert search.sandbox.requests["repository_search"] <= search.sandbox.repository_search_limit + 1


@only_sqlite
def test_a_pause_is_caught_up_completely(search: Searching) -> None:
    search.poll()
    search.push("ana/before", ago=-600)
    search.push("ben/lately", ago=-1100)
    search.poll(1200)
    search.push("cem/now")
    search.poll_for(240, every=40)
    assert search.names == ["ana/before", "ben/lately", "cem/now"]
    assert search.gaps == []


@only_sqlite
def test_the_older_day_of_a_pause_of_two_days_is_a_gap(search: Searching) -> None:
    for second in range(300):
        search.push(f"ana/app{second}", ago=-second)
    search.poll_for(400, every=40)
    search.poll(2 * 86_400)
    [gap] = [gap for gap in search.gaps if gap.reason == "not_caught_up"]
    # Nothing was pushed during the pause, so r8scan also reports that the search index seems incomplete.
    assert {gap.reason for gap in search.gaps} == {"not_caught_up", "index_incomplete"}
    assert (gap.until_at - gap.from_at).total_seconds() == pytest.approx(86_400, abs=600)
    assert gap.estimated > 1000


def accounted_for(search: Searching, pushed: dict[str, float]) -> dict[str, int]:
    """Count the pushes by what r8scan did with them. Fail if a push was missed without a record.

    The keys are `queued`, `behind` (to be searched later) and `gap` (recorded as missed).
    """
    known, plan, found = set(search.names), search.plan, {"queued": 0, "behind": 0, "gap": 0}
    spans = [*plan.behind, (plan.until, int(search.now) + 1)]
    gaps = [(gap.from_at.timestamp(), gap.until_at.timestamp()) for gap in search.gaps]
    for name, at in pushed.items():
        if name in known:
            found["queued"] += 1
        elif any(start <= int(at) <= end for start, end in spans):
            found["behind"] += 1
        else:
            assert any(start <= int(at) <= end for start, end in gaps), f"{name} is missed silently"
            found["gap"] += 1
    return found


@only_sqlite
def test_two_installations_on_one_credential_share_its_quota_and_miss_nothing_silently(
    search: Searching, sandbox: SandboxGitHub, second: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_BEHIND_SECONDS", 60)
    sandbox.points_limit, sandbox.repository_search_limit = 24, 6
    sandbox.graphql.clock = lambda: max(search.now, second.now)
    pushed: dict[str, float] = {}
    for _ in range(24):
        for own in (search, second):
            own.poll(15)
        for number in range(5):
            name = f"ana/app{len(pushed)}"
            pushed[name] = search.now - number
            search.push(name, ago=number)
    assert sandbox.requests["graphql"] <= sandbox.points_limit + 2, "after one refusal each, both send no more requests"
    assert all(accounted_for(own, pushed)["behind"] for own in (search, second)), "the quota is not enough for both"
    for own in (search, second):
        settings = load_settings(read_dotenv=False)
        with own.database.read() as session:
            found = sources.read(session, settings, session.execute(select(db_now())).scalar_one())
        told = [one.sentence for one in found.problems if one.subject == SOURCE]
        assert any("quota is not enough for all pushes" in one for one in told)


@only_sqlite
def test_after_a_day_of_downtime_every_push_is_read_or_recorded_as_missed(
    search: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Let each search cover a wider range of push times, so that the test is faster.
    monkeypatch.setattr(windows, "MAX_BEHIND_WIDTH", 1800)
    search.poll()
    pushed = {f"ana/app{number}": search.now + number * 700 for number in range(120)}
    for name, at in pushed.items():
        search.push(name, ago=search.now - at)
    search.poll(86_000)
    assert accounted_for(search, pushed)["queued"] < len(pushed), "the newest pushes are searched first"
    for _ in range(6):
        search.poll(15)
    found = accounted_for(search, pushed)
    assert found["gap"] == 0
    assert found["queued"] == len(pushed)


@only_sqlite
def test_windows_for_which_the_graphql_points_are_not_enough_are_left_to_the_rest_api(search: Searching) -> None:
    search.sandbox.points_limit, search.sandbox.repository_search_limit = 40, 500
    pushed: dict[str, float] = {}
    for _ in range(16):
        for number in range(5):
            name = f"ana/app{len(pushed)}"
            pushed[name] = search.now - number
            search.push(name, ago=number)
        search.poll(15)
    counts = search.state.counts
    assert counts["windows_left_to_rest"] > 0
    assert search.state.error is None, "no request was refused"
    assert counts["rest_requests"] > counts["windows_left_to_rest"] / 2
    settled = {name for name, at in pushed.items() if at < search.now - 90}
    assert settled <= set(search.names)

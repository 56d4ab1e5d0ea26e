"""Every push that enters the search index is queued once, early or late.

Pushes that cannot be seen are recorded as a gap.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from starlette.responses import JSONResponse

from scanner.detection import Detector
from scanner.github.client import GitHub, connect
from scanner.records.database import Database
from scanner.records.discovery_models import SearchWindow
from scanner.records.models import Sighting, db_now
from scanner.records.source_models import Gap, SourceState
from scanner.settings import load_settings
from scanner.sources.polling.report import PollReport
from scanner.sources.pushes.push import Push
from scanner.sources.repository_search import poll as repository_search
from scanner.sources.repository_search import windows
from scanner.sources.repository_search.windows import Plan
from tests.scanner.sources.knowing import jobs_of, make_due, state_of
from workers.health import sources
from workers.health.overview import empty
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.github_discovery import push_now

SOURCE = repository_search.SOURCE


class Searching:
    """The source, a GitHub, and a clock for both."""

    def __init__(self, database: Database, sandbox: SandboxGitHub, client: GitHub) -> None:
        self.database, self.sandbox, self.client = database, sandbox, client
        self.now = float(int(time.time()))
        sandbox.graphql.clock = lambda: self.now

    def poll(self, seconds: float = 0) -> PollReport:
        """Advance the clock by so many seconds, and poll."""
        self.now += seconds
        make_due(self.database)
        return repository_search.poll(
            *(self.database, self.client, Detector()), vendor="Replicate", wait=lambda _: None, clock=lambda: self.now
        )

    def poll_for(self, seconds: int, every: int = 15) -> None:
        for _ in range(0, seconds, every):
            self.poll(every)

    def push(self, name: str, ago: float = 0.0, **fields: Any) -> None:
        repository = push_now(self.sandbox, name, "1" * 40, at=self.now - ago)
        for field, value in fields.items():
            setattr(repository, field, value)

    def look_again(self) -> None:
        """Make the next look at every window due."""
        with self.database.write() as session:
            session.execute(update(SearchWindow).values(next_look_at=db_now(-1)))

    def queued(self) -> list[Push]:
        return [Push.from_json(one) for job in jobs_of(self.database, "pushes") for one in job.target["pushes"]]

    @property
    def names(self) -> list[str]:
        return sorted(push.repository for push in self.queued())

    @property
    def state(self) -> SourceState:
        return state_of(self.database, SOURCE)

    @property
    def plan(self) -> Plan:
        return Plan.from_json(self.state.cursor, self.now)

    @property
    def gaps(self) -> list[Gap]:
        with self.database.read() as session:
            return list(session.execute(select(Gap).order_by(Gap.id)).scalars())


@pytest.fixture
def client(sandbox: SandboxGitHub) -> Iterator[GitHub]:
    client = connect(sandbox.api_url, sandbox.url, "a-credential")
    yield client
    client.close()


@pytest.fixture
def search(database: Database, sandbox: SandboxGitHub, client: GitHub) -> Searching:
    return Searching(database, sandbox, client)


@pytest.fixture
def second(sandbox: SandboxGitHub, upgraded_sqlite: Path, tmp_path: Path) -> Iterator[Searching]:
    """Return another installation with the same credential and a separate database and gate."""
    shutil.copy(upgraded_sqlite, tmp_path / "second.db")
    with (
        closing(Database(f"sqlite:///{tmp_path / 'second.db'}")) as database,
        closing(connect(sandbox.api_url, sandbox.url, "a-credential")) as client,
    ):
        yield Searching(database, sandbox, client)


only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def test_a_push_is_queued_with_its_tip_once_the_index_knows_it(search: Searching) -> None:
    search.poll()
    search.push("ana/app", is_fork=True, language="Python")
    search.sandbox.list_repository("ana/empty", created_at=search.now)
    search.poll_for(90)
    [push] = search.queued()
    assert (push.repository, push.head, push.ref, push.kind) == ("ana/app", "1" * 40, "refs/heads/main", "push")
    assert push.published_at is not None
    assert push.published_at.timestamp() == int(search.now - 90)
    counts = search.state.counts
    assert (counts["repositories"], counts["empty_repositories"]) == (2, 1)
    assert search.state.error is None


@only_sqlite
def test_windows_of_thousands_are_read_in_parts_that_github_shows_whole(search: Searching) -> None:
    search.poll()
    for number in range(1100):
        search.push(f"ana/app{number}", ago=-(number % 11))
    search.poll_for(120)
    assert len(search.names) == len(set(search.names)) == 1100
    assert search.plan.rate > 0
    assert search.gaps == []


@only_sqlite
def test_more_than_github_shows_of_one_second_is_read_from_both_ends_and_the_rest_is_a_gap(search: Searching) -> None:
    search.poll()
    for number in range(2100):
        search.push(f"ana/app{number}")
    search.poll_for(120)
    assert len(set(search.names)) == 2000
    [gap] = search.gaps
    assert (gap.reason, gap.estimated, gap.source) == ("over_1000_results", 100, SOURCE)


@only_sqlite
def test_the_first_look_waits_for_an_index_that_lags(search: Searching) -> None:
    search.sandbox.index.lag = 100
    for number in range(7000):
        search.push(f"ana/app{number}", ago=900 - number // 6)
    search.poll_for(120, every=20)
    assert search.plan.settle == pytest.approx(102, abs=5)
    before = search.state.counts.get("repositories_late", 0)
    search.poll_for(160, every=20)
    assert search.state.counts.get("repositories_late", 0) == before
    assert len(search.names) == len(set(search.names))


@only_sqlite
def test_pushes_indexed_late_are_found_by_a_later_look(search: Searching) -> None:
    search.poll()
    search.push("ana/early")
    search.sandbox.index.lag = 200
    search.push("ana/late")
    search.poll_for(90)
    assert search.names == ["ana/early"]
    search.look_again()
    search.poll(150)
    assert search.names == ["ana/early", "ana/late"]
    assert search.state.counts["repositories_late"] == 1
    # The next look finds nothing new, and after the last one the window is forgotten.
    for _ in range(3):
        search.look_again()
        search.poll(5)
    assert search.names == ["ana/early", "ana/late"]
    with search.database.read() as session:
        windows = session.execute(select(SearchWindow.looks)).scalars().all()
    assert all(looks == 0 for looks in windows)


@only_sqlite
def test_a_repository_that_leaves_its_window_hides_no_other(search: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the results are read, they move up by one. Another pass reads the result that was therefore skipped."""
    search.poll()
    for number in range(300):
        search.push(f"ana/app{number}")
    answered = search.sandbox.graphql.index_matches
    calls: list[int] = []

    def shifting(words: str) -> list[int]:
        found = answered(words)
        if len(found) == 300 and "updated-asc" in words:
            calls.append(len(found))
            # From the second page on, ten repositories of the first page have left.
            return found if len(calls) == 1 else found[10:]
        return found

    monkeypatch.setattr(search.sandbox.graphql, "index_matches", shifting)
    search.poll_for(90)
    assert len(set(search.names)) == 300
    assert search.state.counts["passes_again"] == 1


@only_sqlite
def test_a_partial_answer_is_requested_again(search: Searching) -> None:
    search.poll()
    for number in range(150):
        search.push(f"ana/app{number}")
    search.poll_for(55)
    search.sandbox.graphql.partial_after.extend([50, 20, 30])
    search.poll_for(35)
    assert len(set(search.names)) == 150
    assert search.state.counts["partial_answers"] >= 2


@only_sqlite
def test_a_window_is_read_again_after_an_error_in_the_middle_of_it(search: Searching) -> None:
    search.poll()
    for number in range(250):
        search.push(f"ana/app{number}")
    search.poll_for(55)
    search.sandbox.graphql.gives_up = 1
    search.poll(30)
    assert search.state.error is None or "gave up" in search.state.error
    search.poll_for(30)
    assert len(set(search.names)) == 250


@only_sqlite
def test_the_rest_search_is_used_when_the_points_are_spent(search: Searching) -> None:
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
    [gap] = search.gaps
    assert gap.reason == "not_caught_up"
    assert (gap.until_at - gap.from_at).total_seconds() == pytest.approx(86_400, abs=600)
    assert gap.estimated > 1000


@only_sqlite
def test_an_index_that_loses_half_of_its_entries_is_recorded_as_a_gap(search: Searching) -> None:
    search.poll()
    with search.database.write() as session:
        cursor = {**search.plan.to_json(), "until": int(search.now), "rate": 10.0}
        session.execute(update(SourceState).where(SourceState.source == SOURCE).values(cursor=cursor))
    search.sandbox.index.lost = 0.7  # a new repository enters it twice: when it is created and when it is pushed
    begin = search.now
    for number in range(1000):
        search.push(f"ben/app{number}", ago=-(number / 10))
    search.poll_for(160, every=40)
    assert search.plan.rate > 9, "a thin window does not become the usual one"
    for _ in range(5):
        search.look_again()
        search.poll(1)
    assert {gap.reason for gap in search.gaps} == {"index_incomplete"}
    lost = 1000 - sum(push.repository.startswith("ben/") for push in search.queued())
    assert sum(gap.estimated for gap in search.gaps) == pytest.approx(lost, rel=0.25)
    first, last = search.gaps[0].from_at.timestamp(), search.gaps[-1].until_at.timestamp()
    assert first == pytest.approx(begin, abs=10)
    assert last == pytest.approx(begin + 100, abs=20)


@only_sqlite
def test_a_credential_that_sees_only_a_part_is_named_and_the_rest_search_is_used(search: Searching) -> None:
    search.sandbox.graphql.sees = 0.1
    for number in range(500):
        search.push(f"ben/app{number}", ago=25 - number // 5)
    search.poll_for(240, every=30)
    assert "set GITHUB_TOKEN" in str(search.state.error)
    assert len({name for name in search.names if name.startswith("ben/")}) == 500


@only_sqlite
def test_without_a_credential_no_request_is_sent_and_the_status_says_why(
    search: Searching, sandbox: SandboxGitHub
) -> None:
    search.client = connect(sandbox.api_url, sandbox.url, None)
    assert search.poll().error == "needs_credential"
    search.client.close()
    assert "set GITHUB_TOKEN" in str(search.state.error)
    assert sandbox.requests["graphql"] == 0


@only_sqlite
def test_a_token_in_a_description_is_found_without_reading_the_repository(
    search: Searching, fresh_token: Callable[[], str]
) -> None:
    search.poll()
    token = fresh_token()
    search.push("ana/app", description=f"use {token} to try it")
    search.poll_for(90)
    with search.database.read() as session:
        [found] = session.execute(select(Sighting)).scalars()
    assert (found.kind, found.repository, found.source) == ("repository_description", "ana/app", SOURCE)
    assert token not in str([job.target for job in jobs_of(search.database, "pushes")])


def accounted_for(search: Searching, pushed: dict[str, float]) -> dict[str, int]:
    """Return how many pushes were queued, are in a span to catch up on, or are in a recorded gap.

    The test fails if a push is in none of them, because it was missed silently.
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
    assert sandbox.requests["graphql"] <= sandbox.points_limit + 2, "refused once, each asks no more"
    assert all(accounted_for(own, pushed)["behind"] for own in (search, second)), "the quota does not pay for both"
    for own in (search, second):
        settings = load_settings(read_dotenv=False)
        overview = empty(settings)
        with own.database.read() as session:
            overview.at = session.execute(select(db_now())).scalar_one()
            sources.read(session, settings, overview)
        told = [one.sentence for one in overview.problems if one.subject == SOURCE]
        assert any("quota is not enough for all pushes" in one for one in told)


@only_sqlite
def test_after_a_day_of_downtime_all_of_it_is_read_or_named(search: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_BEHIND_WIDTH", 1800)  # needs a third of the requests, so that the test is faster
    search.poll()
    pushed = {f"ana/app{number}": search.now + number * 700 for number in range(120)}
    for name, at in pushed.items():
        search.push(name, ago=search.now - at)
    search.poll(86_000)
    assert accounted_for(search, pushed)["queued"] < len(pushed), "the newest go first"
    for _ in range(6):
        search.poll(15)
    found = accounted_for(search, pushed)
    assert found["gap"] == 0
    assert found["queued"] == len(pushed)


@only_sqlite
def test_windows_that_the_points_do_not_pay_for_are_left_to_the_rest_search(search: Searching) -> None:
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
    assert search.state.error is None, "no point was asked for in vain"
    assert counts["rest_requests"] > counts["windows_left_to_rest"] / 2
    settled = {name for name, at in pushed.items() if at < search.now - 90}
    assert settled <= set(search.names)

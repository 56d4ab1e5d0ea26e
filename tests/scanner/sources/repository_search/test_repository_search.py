"""Tests that each push is queued once, no matter how late it enters GitHub's search index."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select, update

from scanner.github.client import connect
from scanner.records.discovery_models import SearchWindow
from scanner.records.models import Sighting
from scanner.records.source_models import SourceState
from tests.scanner.sources.knowing import jobs_of
from tests.scanner.sources.repository_search.searching import SOURCE, Searching, only_sqlite
from workers.sandbox.github import SandboxGitHub


def test_a_push_is_queued_with_its_last_commit_when_the_index_knows_it(search: Searching) -> None:
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
def test_a_second_with_more_pushes_than_github_shows_is_read_from_both_ends_and_the_rest_is_a_gap(
    search: Searching,
) -> None:
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
    # Repeat the searches that r8scan has planned for the time of these pushes. The searches find no other repository.
    for _ in range(3):
        search.look_again()
        search.poll(5)
    assert search.names == ["ana/early", "ana/late"]
    with search.database.read() as session:
        windows = session.execute(select(SearchWindow.looks)).scalars().all()
    assert all(looks == 0 for looks in windows)


@only_sqlite
def test_a_repository_that_leaves_its_window_hides_no_other(search: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    """While r8scan reads the result pages, ten repositories get newer pushes, so the following results move up by
    ten.
    """
    search.poll()
    for number in range(300):
        search.push(f"ana/app{number}")
    answered = search.sandbox.graphql.index_matches
    calls: list[int] = []

    def shifting(words: str) -> list[int]:
        found = answered(words)
        if len(found) == 300 and "updated-asc" in words:
            calls.append(len(found))
            # The first call returns the first page. For later pages, the results have moved up by ten.
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
def test_a_page_that_is_too_heavy_is_read_in_smaller_parts(search: Searching) -> None:
    search.poll()
    for number in range(150):
        search.push(f"ana/app{number}")
    search.sandbox.graphql.stops_after = 30
    search.poll_for(90, every=30)
    assert len(set(search.names)) == 150
    counts = search.state.counts
    assert (counts.get("short_by", 0), counts["pages_too_heavy"]) == (0, 1)


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
def test_an_index_that_loses_half_of_its_entries_is_recorded_as_a_gap(search: Searching) -> None:
    search.poll()
    with search.database.write() as session:
        cursor = {**search.plan.to_json(), "until": int(search.now), "rate": 10.0}
        session.execute(update(SourceState).where(SourceState.source == SOURCE).values(cursor=cursor))
    # A repository has two chances to enter the index: when it is created, and when it is pushed to.
    search.sandbox.index.lost = 0.7
    begin = search.now
    for number in range(1000):
        search.push(f"ben/app{number}", ago=-(number / 10))
    search.poll_for(160, every=40)
    assert search.plan.rate > 9, "one window with few pushes hardly changes the usual rate"
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
def test_a_credential_that_sees_only_a_part_is_named_and_the_rest_api_searches(search: Searching) -> None:
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

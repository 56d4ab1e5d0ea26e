"""Tests that every new public repository is recorded once, and that its first push is queued."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import select, update
from starlette.responses import JSONResponse

from scanner.detection import Detector
from scanner.github.client import GitHub, connect
from scanner.records.database import Database
from scanner.records.discovery_models import NewRepository
from scanner.records.models import Sighting, db_now
from scanner.records.source_models import Gap, SourceState
from scanner.sources.new_repositories import listing, looks
from scanner.sources.new_repositories import poll as new_repositories
from scanner.sources.new_repositories.listing import ListPosition
from scanner.sources.polling.report import PollReport
from scanner.sources.pushes.push import Push
from tests.scanner.sources.knowing import jobs_of, make_due, state_of
from workers.sandbox.github import Repository, SandboxGitHub
from workers.sandbox.github_discovery import push_now

SOURCE = new_repositories.SOURCE
only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


class Listing:
    """Polls a list of new repositories, which already has five old repositories."""

    def __init__(self, database: Database, sandbox: SandboxGitHub, client: GitHub) -> None:
        self.database, self.sandbox, self.client = database, sandbox, client
        for number in range(5):
            self.create(f"old/app{number}")

    def create(self, name: str) -> Repository:
        return self.sandbox.list_repository(name, created_at=time.time())

    def poll(self) -> PollReport:
        make_due(self.database)
        return new_repositories.poll(self.database, self.client, Detector(), vendor="Replicate", wait=lambda _: None)

    def look(self) -> None:
        """Poll the list of new repositories, and check each known repository for a first push."""
        with self.database.write() as session:
            session.execute(update(NewRepository).values(next_look_at=db_now(-1)))
        self.poll()

    @property
    def waiting(self) -> dict[int, int]:
        """For each repository without a push, return how often r8scan has checked it, by its id."""
        with self.database.read() as session:
            rows = session.execute(select(NewRepository.repository_id, NewRepository.looks))
            return {row.repository_id: row.looks for row in rows}

    @property
    def state(self) -> SourceState:
        return state_of(self.database, SOURCE)

    def queued(self) -> list[Push]:
        return [Push.from_json(one) for job in jobs_of(self.database, "pushes") for one in job.target["pushes"]]


@pytest.fixture
def client(sandbox: SandboxGitHub) -> Iterator[GitHub]:
    client = connect(sandbox.api_url, sandbox.url, "a-credential")
    yield client
    client.close()


@pytest.fixture
def source(database: Database, sandbox: SandboxGitHub, client: GitHub) -> Listing:
    return Listing(database, sandbox, client)


def test_the_first_push_of_a_new_repository_is_queued_once(source: Listing) -> None:
    source.poll()
    created = source.create("ana/app")
    source.poll()
    assert created.id in source.waiting
    source.look()
    assert source.queued() == []
    push_now(source.sandbox, "ana/app", "1" * 40)
    source.look()
    [push] = source.queued()
    assert (push.repository, push.head, push.likelihood) == ("ana/app", "1" * 40, "likely")
    assert created.id not in source.waiting
    # Another check of the repository must not queue the push a second time.
    source.look()
    assert len(source.queued()) == 1
    counts = source.state.counts
    assert (counts["first_pushes"], counts["repositories"]) == (1, 6)


@only_sqlite
def test_the_newest_id_is_found_by_bisection_within_few_requests(source: Listing) -> None:
    for number in range(300):
        source.create(f"old/more{number}")
    source.poll()
    newest = max(repository.id for repository in source.sandbox.repositories.values())
    assert ListPosition.from_json(source.state.cursor).newest == newest
    assert source.sandbox.requests["repositories"] < 50


@only_sqlite
def test_null_and_repeated_entries_hide_no_other(source: Listing) -> None:
    source.sandbox.strange_lists = True
    source.poll()
    created = [source.create(f"ana/app{number}").id for number in range(250)]
    source.poll()
    assert set(created) <= set(source.waiting)
    assert source.state.counts["unusable_repository"] > 0
    assert source.state.counts["repositories"] == 255


@only_sqlite
def test_a_repository_that_appears_out_of_order_is_listed_by_the_overlap(source: Listing) -> None:
    source.poll()
    late = source.create("ana/late")
    late.hidden = True
    source.create("ana/app")
    source.poll()
    assert late.id not in source.waiting
    late.hidden = False
    source.poll()
    assert late.id in source.waiting


@only_sqlite
def test_looks_have_growing_intervals_and_end(source: Listing) -> None:
    source.poll()
    created = source.create("ana/app")
    source.poll()
    for number in range(len(looks.LOOKS_AFTER)):
        assert source.waiting[created.id] == number
        source.look()
    assert created.id not in source.waiting
    assert source.state.counts["never_pushed"] >= 1


@only_sqlite
def test_a_deleted_repository_is_removed_and_one_missing_from_a_partial_answer_is_not(source: Listing) -> None:
    source.poll()
    gone, left_out = source.create("ana/gone"), source.create("ana/other")
    source.poll()
    source.sandbox.graphql.partial_after.append(0)
    source.look()
    assert {gone.id, left_out.id} <= set(source.waiting)
    gone.hidden = True
    source.look()
    assert gone.id not in source.waiting
    assert source.waiting[left_out.id] == 1


@only_sqlite
def test_a_repository_that_an_error_of_github_hides_is_looked_at_again(source: Listing) -> None:
    source.poll()
    created = source.create("ana/app")
    source.poll()
    push_now(source.sandbox, "ana/app", "1" * 40)
    failed = {"data": {"nodes": [None]}, "errors": [{"message": "Something went wrong", "path": ["nodes", 0]}]}
    for _ in looks.LOOKS_AFTER[1:]:
        source.sandbox.faults["graphql"].append(lambda: JSONResponse(failed))
        source.look()
    assert source.waiting[created.id] == len(looks.LOOKS_AFTER) - 1
    assert source.queued() == []
    source.look()
    assert [push.repository for push in source.queued()] == ["ana/app"]
    source.create("ana/never")
    source.poll()
    for _ in looks.LOOKS_AFTER:
        source.sandbox.faults["graphql"].append(lambda: JSONResponse(failed))
        source.look()
    assert source.state.counts["never_seen"] == 1


@only_sqlite
def test_listing_continues_while_queries_are_limited(source: Listing) -> None:
    source.poll()
    source.create("ana/first")
    source.poll()
    limited = {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}
    source.sandbox.faults["graphql"].append(lambda: JSONResponse(limited, headers={"Retry-After": "3000"}))
    second = source.create("ana/second")
    source.look()
    assert second.id in source.waiting
    assert "limits our queries" in str(source.state.error)


@only_sqlite
def test_a_pause_is_caught_up_after_the_newest_repositories(source: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", 3)
    monkeypatch.setattr(listing, "OWED_PAGES", 2)
    source.poll()
    source.poll()
    created = {source.create(f"ana/app{number}").id for number in range(900)}
    source.poll()
    place = ListPosition.from_json(source.state.cursor)
    assert place.newest == max(created)
    assert place.owed
    lately = source.create("ana/lately")
    source.poll()
    assert lately.id in source.waiting
    for _ in range(4):
        source.poll()
    assert created <= set(source.waiting)
    assert ListPosition.from_json(source.state.cursor).owed == []


@only_sqlite
def test_the_part_of_a_pause_beyond_the_limit_is_a_gap(source: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", 1)
    monkeypatch.setattr(listing, "MAX_OWED_IDS", 100)
    source.poll()
    source.poll()
    for number in range(600):
        source.create(f"ana/app{number}")
    source.poll()
    with source.database.read() as session:
        [gap] = session.execute(select(Gap)).scalars()
    assert (gap.source, gap.reason) == (SOURCE, "not_caught_up")
    assert gap.estimated > 100


@only_sqlite
def test_a_token_in_the_description_of_a_new_repository_is_found_before_its_first_push(
    source: Listing, fresh_token: Callable[[], str]
) -> None:
    source.poll()
    source.sandbox.list_repository("ana/app", created_at=time.time(), description=f"key {fresh_token()}")
    source.poll()
    with source.database.read() as session:
        [found] = session.execute(select(Sighting)).scalars()
    assert (found.kind, found.repository) == ("repository_description", "ana/app")


@only_sqlite
def test_without_a_credential_no_request_is_sent_and_the_status_says_why(
    source: Listing, sandbox: SandboxGitHub
) -> None:
    source.client = connect(sandbox.api_url, sandbox.url, None)
    assert source.poll().error == "needs_credential"
    source.client.close()
    assert "set GITHUB_TOKEN" in str(source.state.error)
    assert sandbox.requests["repositories"] == 0

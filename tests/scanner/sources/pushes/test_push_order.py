"""Tests that the pushes most likely to contain a leak are read first, and that the least likely are dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from scanner.detection import Detector, Place
from scanner.detection.git.packs import PackLimits
from scanner.github.addresses import Target
from scanner.github.client import GitHub
from scanner.github.errors import RateLimited
from scanner.records import jobs, tallies
from scanner.records.database import Database
from scanner.records.jobs import claim_next
from scanner.records.models import ScanJob
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.sources.batches import runner as page_work
from scanner.sources.batches.runner import ItemOutcome
from scanner.sources.batches.shedding import shed
from scanner.sources.code_search import poll as code_search
from scanner.sources.files import scan as remote_files
from scanner.sources.files.scan import RemoteFile
from scanner.sources.gists import poll as gists
from scanner.sources.pushes.likelihood import WEIGHTS, Evidence, likelihood_of, score
from scanner.sources.pushes.priorities import PRIORITIES, Likelihood
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.scan import scan_next
from scanner.sources.registry import droppable_priorities
from scanner.sources.rescan import manual
from scanner.sources.timeline.event_jobs import REPOSITORY_PRIORITY, enqueue_found
from scanner.sources.timeline.events import Found
from tests.scanner.sources.knowing import exposures, is_disabled, jobs_of, know
from tests.scanner.sources.pushes.pushing import pushed
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

KINDS: tuple[Likelihood, ...] = ("likely", "ordinary", "unlikely")
Make = Callable[..., Workplace]
Token = Callable[[], str]


def push(head: str = "a" * 40, before: str = "b" * 40, likelihood: Likelihood = "ordinary", **changes: Any) -> Push:
    return pushed(before, head, likelihood=likelihood, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "ordinary"),
        ({"is_created": True}, "likely"),
        ({"repository_id": 999_999}, "likely"),
        ({"actor": "dependabot[bot]"}, "unlikely"),
        ({"actor": "renovate"}, "unlikely"),
        ({"actor": "our-ci-bot"}, "unlikely"),
        ({"actor": "abbott"}, "ordinary"),
        ({"ref": "refs/heads/gh-pages"}, "unlikely"),
        ({"ref": "refs/heads/dependabot/npm/x"}, "unlikely"),
        ({"ref": "refs/heads/dependabot/npm/x", "actor": "dependabot[bot]"}, "very_unlikely"),
        ({"mentions_vendor": True}, "very_likely"),
        ({"owner_has_account": True}, "likely"),
        ({"owner_has_account": True, "is_new": True}, "very_likely"),
        ({"owner_has_leaked": True, "is_created": True}, "very_likely"),
        ({"is_fork": True, "size_kb": 10_000_000}, "unlikely"),
        ({"size_kb": 10, "language": "Python"}, "ordinary"),
        ({"repository": "ana/linux-mirror"}, "unlikely"),
        ({"repository": "mirrors/linux"}, "unlikely"),
        ({"repository": "ana/mirrorless"}, "ordinary"),
        ({"actor": "x[bot]", "is_created": True}, "unlikely"),
        ({"newest_repository_id": 0, "repository_id": 5}, "ordinary"),
        ({"repository_id": None}, "ordinary"),
    ],
)
def test_people_and_new_repositories_come_before_machines(changes: dict[str, Any], expected: str) -> None:
    values: dict[str, Any] = {
        "actor": "ana",
        "repository": "ana/app",
        "repository_id": 500_000,
        "ref": "refs/heads/main",
        "is_created": False,
        "newest_repository_id": 1_000_000,
    }
    assert likelihood_of(Evidence(**(values | changes))) == expected


def test_each_weight_has_a_unique_name_and_a_reason() -> None:
    assert len({weight.name for weight in WEIGHTS}) == len(WEIGHTS)
    assert all(weight.reason and weight.points for weight in WEIGHTS)
    assert score(Evidence("ana/app")) == 0


def test_pages_are_claimed_in_the_order_of_their_likelihood(database: Database) -> None:
    kinds: tuple[Likelihood, ...] = ("unlikely", "ordinary", "likely")
    found = Found(pushes=[push(f"{number:040x}", likelihood=one) for number, one in enumerate(kinds)])
    with database.write() as session:
        enqueue_found(session, found)
        enqueue_found(session, Found(pushes=[push("f" * 40)]), source="event_archive", priority=200)
    order = []
    while (job := claim_next(database, JobKind.PUSHES)) is not None:
        order.append(job.target["pushes"][0]["head"][-1])
    assert order == ["2", "1", "0", "f"]


def test_pushes_above_the_limit_are_dropped_least_likely_first_and_counted(database: Database) -> None:
    with database.write() as session:
        for number in range(4):
            for likelihood in KINDS:
                enqueue_found(session, Found(pushes=[push(f"{number:040x}", likelihood=likelihood)] * 2))
        assert shed(session, JobKind.PUSHES, most_items=24) == 0
        assert shed(session, JobKind.PUSHES, most_items=12) == 12
        counts = tallies.since(session, 1)["public_events"]
    assert counts == {"dropped_backlog_unlikely": 8, "dropped_backlog_ordinary": 4}
    with database.read() as session:
        left = session.execute(select(ScanJob.priority).where(ScanJob.state == "queued")).scalars().all()
    assert sorted(left) == [95, 95, 95, 95, 100, 100]


def test_a_job_that_has_begun_is_not_dropped(database: Database) -> None:
    with database.write() as session:
        for number in range(3):
            enqueue_found(session, Found(pushes=[push(f"{number:040x}", likelihood="unlikely")]))
    assert claim_next(database, JobKind.PUSHES) is not None
    with database.write() as session:
        shed(session, JobKind.PUSHES, most_items=0)
    assert sorted(job.state for job in jobs_of(database, "pushes")) == ["dropped", "dropped", "running"]


def refuse(database: Database, *only: str) -> None:
    """Claim every due job, and refuse its pushes as if the quota were used up.

    With `only`, refuse only the pushes whose last commit's id ends with one of these texts, and read the others.
    """

    def read(item: Push) -> ItemOutcome[Push]:
        err = RateLimited("budget_spent", "spent", retry_after=1800, asked=False)
        return ItemOutcome(item, error=err if item.head.endswith(only or "") else None)

    while (job := claim_next(database, JobKind.PUSHES)) is not None:
        page_work.work(database, job, [Push.from_json(one) for one in job.target["pushes"]], read, threads=1)


def test_pushes_refused_by_the_gate_are_dropped_before_likelier_ones(database: Database) -> None:
    with database.write() as session:
        for number in range(6):
            enqueue_found(session, Found(pushes=[push(f"{number:040x}", likelihood="unlikely")] * 2))
    refuse(database)
    with database.write() as session:
        assert shed(session, JobKind.PUSHES, most_items=4) == 8
        for number in range(2):
            enqueue_found(session, Found(pushes=[push(f"{number:040x}", likelihood="likely")] * 2))
        assert shed(session, JobKind.PUSHES, most_items=4) == 4
        counts = tallies.since(session, 1)["public_events"]
    assert counts == {"dropped_backlog_unlikely": 12}
    assert {job.priority for job in jobs_of(database, "pushes") if job.state == "queued"} == {PRIORITIES["likely"]}


def test_a_push_that_waits_for_a_budget_keeps_its_place_in_the_queue(database: Database) -> None:
    with database.write() as session:
        enqueue_found(
            session, Found(pushes=[push("a" * 40, likelihood="unlikely"), push("b" * 40, likelihood="unlikely")])
        )
    refuse(database, "b")
    done, waiting = jobs_of(database, "pushes")
    assert (done.state, [one["head"] for one in waiting.target["pushes"]]) == ("done", ["b" * 40])
    assert waiting.priority == PRIORITIES["unlikely"]
    with database.write() as session:
        assert shed(session, JobKind.PUSHES, most_items=0) == 1


def test_retries_are_not_dropped() -> None:
    tried_again = {page_work.RETRY_PRIORITY, page_work.SINGLE_PRIORITY}
    kinds = (JobKind.PUSHES, JobKind.FILES, JobKind.REPOSITORY)
    assert all(droppable_priorities(kind) for kind in kinds)
    assert tried_again.isdisjoint(priority for kind in kinds for priority in droppable_priorities(kind))


def test_retries_of_single_pushes_do_not_fill_the_queue_like_pages(database: Database) -> None:
    with database.write() as session:
        for number in range(40):
            target = {"pushes": [push(f"{number:040x}").to_json()]}
            jobs.enqueue(session, JobKind.PUSHES, target, source="public_events", priority=page_work.RETRY_PRIORITY)
        enqueue_found(session, Found(pushes=[push("c" * 40, likelihood="likely")] * 25))
        assert shed(session, JobKind.PUSHES, most_items=25) == 0


def test_jobs_of_an_operator_displace_no_job_of_a_poll(database: Database) -> None:
    with database.write() as session:
        for number in range(5):
            manual.queue(session, Target("repository", f"ben/app{number}"))
        enqueue_found(session, Found(repositories=[("ana/app", 1, None)]))
        assert shed(session, JobKind.REPOSITORY, most_items=1) == 0


def test_a_repository_that_just_became_public_is_neither_delayed_nor_dropped_with_the_archives(
    database: Database,
) -> None:
    found = Found(repositories=[("ana/app", 1, None)])
    with database.write() as session:
        enqueue_found(session, Found(repositories=[("ben/app", 2, None)]), source="event_archive", priority=200)
        enqueue_found(session, found, source="event_archive", priority=200)
        enqueue_found(session, found)
        assert shed(session, JobKind.REPOSITORY, most_items=1) == 1
    job = claim_next(database, JobKind.REPOSITORY)
    assert job is not None
    assert (job.target["repository"], job.priority) == ("ana/app", REPOSITORY_PRIORITY)


def test_files_and_repositories_are_dropped_and_counted_but_none_that_an_operator_waits_for(
    database: Database,
) -> None:
    files = [RemoteFile(f"https://example.com/{number}", Place("gist"), 1) for number in range(30)]
    with database.write() as session:
        remote_files.enqueue(session, files, source="gists", priority=gists.PRIORITY)
        remote_files.enqueue(session, files, source="code_search", priority=code_search.PRIORITY)
        enqueue_found(session, Found(repositories=[(f"ana/app{number}", number, None) for number in range(3)]))
        manual.queue(session, Target("repository", "ben/app"))
        manual.queue(session, Target("repository", "ana/app0"))
        assert shed(session, JobKind.FILES, most_items=30) == 30
        assert shed(session, JobKind.REPOSITORY, most_items=0) == 2
        counted = tallies.since(session, 1)
    assert counted == {
        "code_search": {"dropped_backlog_files": 30},
        "public_events": {"dropped_backlog_repository": 2},
    }
    left = [job.target["repository"] for job in jobs_of(database, "repository") if job.state == "queued"]
    assert left == ["ana/app0", "ben/app"]


class Bench:
    def __init__(self, database: Database, client: GitHub, folder: Path) -> None:
        self.database, self.client, self.folder = database, client, folder

    def scan(self, *pushes: Push) -> ScanJob:
        with self.database.write() as session:
            enqueue_found(session, Found(pushes=list(pushes)))
        scan_next(
            self.database,
            self.client,
            Detector(),
            Policy(),
            limits=PackLimits(),
            threads=2,
            state_dir=self.folder,
        )
        return jobs_of(self.database, "pushes")[-1]


@pytest.fixture
def bench(database: Database, client: GitHub, tmp_path: Path) -> Bench:
    return Bench(database, client, tmp_path / "state")


def test_the_same_commits_in_a_fork_are_found_at_their_place_there(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    token = fresh_token()
    digest = know(bench.database, token)
    work = workplace("ana/app")
    before = work.commit("first")
    work.write("a b.py", f"\nx = '{token}'\n")
    head = work.commit("oops")
    work.push()
    bench.scan(push(head, before))
    assert is_disabled(bench.database, digest)
    fork = sandbox.create_repository("ben/fork")
    work.git("push", "-q", sandbox.push_address("ben/fork"), "HEAD")
    bench.scan(push(head, before, repository="ben/fork", repository_id=fork.id))
    original, copy = exposures(bench.database)
    assert (copy.repository, copy.repository_id, copy.path, copy.line) == ("ben/fork", fork.id, "a b.py", 2)
    assert copy.url == original.url.replace("ana/app", "ben/fork")


def test_a_push_with_the_same_head_and_an_older_start_is_read(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub
) -> None:
    work = workplace()
    first, second, third = (work.commit(str(number)) for number in range(3))
    work.push()
    bench.scan(push(third, second))
    sandbox.requests.clear()
    bench.scan(push(third, first))
    assert sandbox.requests["git"] == 1


def test_a_commit_that_an_operator_names_is_read_again(bench: Bench, workplace: Make, sandbox: SandboxGitHub) -> None:
    work = workplace()
    before = work.commit("first")
    head = work.commit("second")
    work.push()
    bench.scan(push(head, before))
    sandbox.requests.clear()
    job = bench.scan(push(head, before, kind="commit", repository_id=None))
    assert (sandbox.requests["git"], job.state) == (1, "done")
    whole = bench.scan(push(head, "0" * 40, kind="commit", repository_id=None))
    assert whole.counts["objects"] > job.counts["objects"]

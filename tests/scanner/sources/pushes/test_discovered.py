"""Tests that pushes found in GitHub's lists are read, and those most likely to contain a leak first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scanner.detection import Detector
from scanner.detection.git.packs import PackLimits
from scanner.github.client import GitHub
from scanner.records.database import Database
from scanner.records.models import Account
from scanner.response.policy import Policy
from scanner.sources.pushes.discovered import DiscoveredPush, queue_discovered
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.scan import scan_next
from tests.scanner.sources.knowing import is_disabled, jobs_of, know
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize("knows_tip", [True, False])
def test_the_token_in_a_discovered_push_is_disabled(
    database: Database,
    client: GitHub,
    sandbox: SandboxGitHub,
    workplace: Callable[..., Workplace],
    fresh_token: Callable[[], str],
    tmp_path: Path,
    knows_tip: bool,
) -> None:
    token = fresh_token()
    digest = know(database, token)
    work = workplace()
    work.write("app.py", f'client = Client(api_token="{token}")\n')
    tip = work.commit("first")
    work.push()
    repository_id = sandbox.repositories["ana/app"].id
    known = DiscoveredPush(repository_id, "ana/app", NOW, "main", tip)
    found = known if knows_tip else replace(known, default_branch=None, tip=None)
    with database.write() as session:
        assert queue_discovered(session, [found], source="repository_search") == 1
    scan_next(database, client, Detector(), Policy(), limits=PackLimits(), threads=1, state_dir=tmp_path)
    assert is_disabled(database, digest)
    [job] = jobs_of(database, "pushes")
    assert (job.source, job.visible_at) == ("repository_search", NOW)


def test_a_new_repository_goes_before_an_ordinary_push_and_a_machine_comes_last(database: Database) -> None:
    found = [
        DiscoveredPush(1, "renovate-bot/app", NOW, "main", "1" * 40),
        DiscoveredPush(2, "ana/app", NOW, "main", "2" * 40),
        DiscoveredPush(3, "ben/app", NOW, "main", "3" * 40, is_new=True),
    ]
    with database.write() as session:
        queue_discovered(session, found, source="repository_search")
    queued = sorted(jobs_of(database, "pushes"), key=lambda job: job.priority)
    assert [job.target["pushes"][0]["repository"] for job in queued] == ["ben/app", "ana/app", "renovate-bot/app"]


def test_no_commit_is_claimed_as_known_for_a_discovered_push(database: Database) -> None:
    found = DiscoveredPush(1, "ana/app", NOW, "main", "1" * 64)
    with database.write() as session:
        queue_discovered(session, [found], source="repository_search")
    [job] = jobs_of(database, "pushes")
    assert Push.from_json(job.target["pushes"][0]).before == "0" * 64


def test_an_owner_with_the_name_of_an_account_goes_first(database: Database) -> None:
    with database.write() as session:
        session.add(Account(name="Ben"))
    found = [DiscoveredPush(1, "ana/a", NOW, "main", "1" * 40), DiscoveredPush(2, "ben/b", NOW, "main", "2" * 40)]
    with database.write() as session:
        queue_discovered(session, found, source="repository_search")
    pushes = [Push.from_json(job.target["pushes"][0]) for job in jobs_of(database, "pushes")]
    assert {push.repository: push.likelihood for push in pushes} == {"ana/a": "ordinary", "ben/b": "likely"}

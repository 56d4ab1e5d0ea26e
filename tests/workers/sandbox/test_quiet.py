"""Tests that `r8scan sandbox` does not report outdated lists when nobody has pushed for a while."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scanner.detection import Detector
from scanner.github.client import connect
from scanner.records.database import Database
from scanner.settings import load_settings
from scanner.sources.new_repositories import poll as new_repositories
from scanner.sources.repository_search import poll as repository_search
from scanner.sources.timeline import poll as timeline
from tests.scanner.sources.knowing import make_due
from workers.health.overview import read_rows
from workers.health.problems import Kind
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.github_discovery import push_now

SOURCES = ["public_events", "repository_search", "new_repositories"]
MINUTES = 20
"""The age of a list's newest event. A list is reported as outdated if this is more than fifteen minutes."""


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_list_without_new_events_is_not_old_until_another_source_shows_a_newer_repository(
    database: Database, sandbox: SandboxGitHub, tmp_path: Path
) -> None:
    github = connect(sandbox.api_url, sandbox.url, "a-credential")

    def old_lists() -> Sequence[str]:
        """Poll all lists of GitHub, and return the problems about outdated lists."""
        make_due(database)
        repository_search.poll(database, github, Detector(), vendor="Replicate", wait=lambda _: None)
        new_repositories.poll(database, github, Detector(), vendor="Replicate", wait=lambda _: None)
        timeline.poll(database, github, Detector(), state_dir=tmp_path, wait=lambda _: None)
        with database.read() as session:
            found = read_rows(session, load_settings(state_dir=tmp_path, sources=SOURCES)).problems
        return [one.sentence for one in found if one.kind == Kind.SOURCE_STALE]

    then = time.time() - 60 * MINUTES
    pushed = push_now(sandbox, "ana/app", "1" * 40, at=then)
    payload = {"ref": "refs/heads/main", "before": "0" * 40, "head": "1" * 40}
    sandbox.timeline.emit("PushEvent", "ana/app", pushed.id, payload)
    (event,) = sandbox.timeline.page(1, 10)
    event["created_at"] = f"{datetime.fromtimestamp(then, UTC):%Y-%m-%dT%H:%M:%SZ}"
    for _ in range(3):
        assert old_lists() == []
    sandbox.list_repository("ana/new", created_at=time.time())
    old_lists()
    (sentence,) = old_lists()
    assert sentence.startswith("public_events: GitHub serves an old list, with nothing newer than 20 minutes")
    github.close()

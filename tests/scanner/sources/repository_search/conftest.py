"""Fixtures for tests of repository search."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scanner.github.client import GitHub, connect
from scanner.records.database import Database
from tests.scanner.sources.repository_search.searching import Searching
from workers.sandbox.github import SandboxGitHub


@pytest.fixture
def client(sandbox: SandboxGitHub) -> Iterator[GitHub]:
    client = connect(sandbox.api_url, sandbox.url, "a-credential")
    yield client
    client.close()


@pytest.fixture
def search(database: Database, sandbox: SandboxGitHub, client: GitHub) -> Searching:
    return Searching(database, sandbox, client)

"""Fixtures that the tests of several sources share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scanner.github.client import GitHub, connect
from workers.sandbox.github import SandboxGitHub


@pytest.fixture
def client(sandbox: SandboxGitHub) -> Iterator[GitHub]:
    client = connect(sandbox.api_url, sandbox.url, "a-credential")
    yield client
    client.close()

"""Serves a sandbox's GitHub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.sandbox.github import SandboxGitHub
from workers.sandbox.github_api import application
from workers.sandbox.http_server import served


@contextmanager
def running(root: Path, **options: Any) -> Iterator[SandboxGitHub]:
    """A GitHub that answers on loopback while the block runs."""
    github = SandboxGitHub(root, **options)
    with served(application(github)) as url:
        github.url = url
        yield github

"""Runs the simulated GitHub as an HTTP server: the REST API below /api, and git at the root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route

from workers.sandbox import github_api, github_discovery, github_listings, github_writing
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.github_api import Answers
from workers.sandbox.http_server import served


def application(github: SandboxGitHub) -> Starlette:
    """Return the ASGI application of a simulated GitHub."""
    answers = Answers(github)
    git = Route("/{owner}/{name}/{rest:path}", answers.git, methods=["GET", "POST"])
    return Starlette(
        routes=[
            *github_api.routes(answers),
            *github_listings.routes(answers),
            *github_discovery.routes(answers),
            *github_writing.routes(answers),
            git,
        ]
    )


@contextmanager
def running(root: Path, **options: Any) -> Iterator[SandboxGitHub]:
    """Run a simulated GitHub until the `with` block ends. `options` are fields of `SandboxGitHub`."""
    github = SandboxGitHub(root, **options)
    with served(application(github)) as url:
        github.url = url
        yield github

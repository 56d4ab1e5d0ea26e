"""Fixtures that every test may use: real databases, a real Redis, fresh tokens."""

from __future__ import annotations

import itertools
import os
import secrets
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest
import stamina

from scanner.github.client import GitHub, connect
from scanner.records import schema
from scanner.records.database import Database
from tests.servers import postgresql_server, redis_server
from workers.sandbox import github_server
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

_numbers = itertools.count()

# How long an example takes says nothing on a machine that does other things too.
hypothesis.settings.register_profile("r8scan", deadline=None)
hypothesis.settings.load_profile("r8scan")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith("R8SCAN_") or name == "GITHUB_TOKEN":
            monkeypatch.delenv(name)
    monkeypatch.setenv("R8SCAN_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def _one_try() -> Iterator[None]:
    """A request that fails is not tried again; a test of trying again says so, and waits for nothing."""
    with stamina.set_testing(True, attempts=1):
        yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[str]:
    with redis_server() as socket:
        yield socket


@pytest.fixture
def postgresql_url(postgresql: str) -> str:
    """A database of its own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return postgresql.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An upgraded database; each test that takes it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/state/r8scan.db"
    else:
        url = request.getfixturevalue("postgresql_url")
    own = Database(url)
    schema.upgrade(own)
    yield own
    own.close()


@pytest.fixture
def fresh_token() -> Callable[[], str]:
    """Makes tokens of the right form that never existed; none is ever written into a file of the project."""

    def make() -> str:
        return "r8_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(37))

    return make


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxGitHub]:
    """A GitHub on loopback, with real git behind it."""
    with github_server.running(tmp_path / "github") as own:
        yield own


@pytest.fixture
def client(sandbox: SandboxGitHub) -> Iterator[GitHub]:
    """Our client, connected to the sandbox's GitHub."""
    own = connect(sandbox.api_url, sandbox.url, None)
    yield own
    own.close()


@pytest.fixture
def workplace(sandbox: SandboxGitHub, tmp_path: Path) -> Callable[..., Workplace]:
    """Makes working copies of a repository of the sandbox's, which is created if need be."""

    def make(repository: str = "ana/app", **options: str) -> Workplace:
        if sandbox.find(repository) is None:
            sandbox.create_repository(repository)
        own = Workplace(tmp_path / f"work-{next(_numbers)}", sandbox.push_address(repository), **options)
        own.start()
        return own

    return make

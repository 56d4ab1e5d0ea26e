"""Pytest fixtures for all tests: databases, Redis, a simulated GitHub, and invented tokens."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import string
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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

# Set no deadline for examples, because an example may be slow only because the machine is busy.
hypothesis.settings.register_profile("r8scan", deadline=None, derandomize=True)
hypothesis.settings.load_profile("r8scan")


SERVERS = {"client", "database", "postgresql", "r8scan", "redis_socket", "sandbox", "served", "service", "workplace"}
"""The fixtures that start a server or a process, or that use a database."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a server or another process. `make check` skips them."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & SERVERS or "end_to_end" in item.path.parts:
            item.add_marker("servers")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the developer's settings, and use a new state folder for each test."""
    for name in list(os.environ):
        if name.startswith("R8SCAN_") or name == "GITHUB_TOKEN":
            monkeypatch.delenv(name)
    monkeypatch.setenv("R8SCAN_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def _one_try() -> Iterator[None]:
    """Switch off the retries of HTTP requests."""
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


@contextmanager
def _created(postgresql: str, name: str, template: str = "template1") -> Iterator[str]:
    """Create a PostgreSQL database, yield its URL, and delete it afterwards."""
    create = f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy'
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(create.encode())
        yield postgresql.replace("/postgres?", f"/{name}?")
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _upgraded(url: str) -> None:
    database = Database(url)
    schema.upgrade(database)
    database.close()


@pytest.fixture
def postgresql_url(postgresql: str) -> Iterator[str]:
    """Return the URL of an empty PostgreSQL database for one test."""
    with _created(postgresql, f"test_{os.getpid()}_{next(_numbers)}") as url:
        yield url


@pytest.fixture(scope="session")
def upgraded_postgresql(postgresql: str) -> Iterator[str]:
    """Yield the name of a PostgreSQL database with all tables, from which tests make copies."""
    name = f"upgraded_{os.getpid()}"
    with _created(postgresql, name) as url:
        _upgraded(url)
        yield name


@pytest.fixture(scope="session")
def upgraded_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of an SQLite file with all tables, from which tests make copies."""
    path = tmp_path_factory.mktemp("upgraded") / "r8scan.db"
    _upgraded(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Yield a database with all tables. Each test that uses it runs twice: on SQLite and on PostgreSQL."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            path = tmp_path / "state" / "r8scan.db"
            path.parent.mkdir(mode=0o700)
            shutil.copy(request.getfixturevalue("upgraded_sqlite"), path)
            url = f"sqlite:///{path}"
        else:
            template = request.getfixturevalue("upgraded_postgresql")
            name = f"test_{os.getpid()}_{next(_numbers)}"
            url = stack.enter_context(_created(request.getfixturevalue("postgresql"), name, template))
        database = Database(url)
        stack.callback(database.close)
        yield database


@pytest.fixture
def fresh_token() -> Callable[[], str]:
    """Return a function that creates a random token."""

    def make() -> str:
        return "r8_" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(37))

    return make


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxGitHub]:
    """Yield a simulated GitHub with real git repositories on this machine."""
    with github_server.running(tmp_path / "github") as github:
        yield github


@pytest.fixture
def client(sandbox: SandboxGitHub) -> Iterator[GitHub]:
    """Yield r8scan's GitHub client, connected to the simulated GitHub without a credential."""
    client = connect(sandbox.api_url, sandbox.url, None)
    yield client
    client.close()


@pytest.fixture
def workplace(sandbox: SandboxGitHub, tmp_path: Path) -> Callable[..., Workplace]:
    """Return a function that creates a working copy of a repository on the simulated GitHub."""

    def make(repository: str = "ana/app", **options: str) -> Workplace:
        if sandbox.find(repository) is None:
            sandbox.create_repository(repository)
        workplace = Workplace(tmp_path / f"work-{next(_numbers)}", sandbox.push_address(repository), **options)
        workplace.start()
        return workplace

    return make

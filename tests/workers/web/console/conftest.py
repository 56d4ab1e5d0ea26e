"""Pytest fixtures for the console, for example a filled database and HTTP clients."""

from __future__ import annotations

import shutil
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from sqlalchemy import select

from scanner.records.database import Database
from scanner.records.models import Incident
from scanner.records.states import Role
from scanner.settings import load_settings
from tests.workers.web.console import identities
from tests.workers.web.console.filled import fill
from workers.context import Context
from workers.sandbox.world import until
from workers.web.app import application
from workers.web.console import sessions, users

PASSWORD = "correct horse battery staple"
FROM_HERE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="session")
def filled_sqlite(upgraded_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of an SQLite database with many rows and two users, a viewer and an operator."""
    path = tmp_path_factory.mktemp("filled") / "r8scan.db"
    shutil.copy(upgraded_sqlite, path)
    database = Database(f"sqlite:///{path}")
    fill(database)
    with database.write() as session:
        password_hash = users.hash_password(PASSWORD)
        users.add(session, "ana", password_hash, Role.OPERATOR, who="operator:test")
        users.add(session, "vera", password_hash, Role.VIEWER, who="operator:test")
    database.close()
    return path


@pytest.fixture
def own_database(filled_sqlite: Path, tmp_path: Path) -> Iterator[Database]:
    path = tmp_path / "state" / "r8scan.db"
    path.parent.mkdir(mode=0o700)
    shutil.copy(filled_sqlite, path)
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


@pytest.fixture
def context(own_database: Database) -> Iterator[Context]:
    context = context_of(own_database)
    yield context
    context.close()


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with identities.provider() as address:
        yield address


def context_of(database: Database, **settings: Any) -> Context:
    url = SecretStr(database.url.render_as_string(hide_password=False))
    built = Context(load_settings(database_url=url, **settings))
    built.__dict__["database"] = database
    return built


@pytest.fixture(autouse=True)
def woken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects the names of started tasks. No messages are sent."""
    found: list[str] = []
    for module in ("incident", "incidents", "decisions", "jobs", "mails"):
        name = f"workers.web.console.pages.{module}"
        monkeypatch.setattr(f"{name}.wake_outbox", lambda: found.append("outbox"), raising=False)
        monkeypatch.setattr(f"{name}.wake", found.append, raising=False)
    return found


@pytest.fixture
def client(context: Context) -> Iterator[httpx.Client]:
    """Yield an HTTP client that is not signed in."""
    with client_of(context) as connected:
        yield connected


@contextmanager
def client_of(context: Context, *, port: int = 0, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Client]:
    """Run the console on this machine, and yield an HTTP client for it.

    The server trusts the client address in the header X-Forwarded-For.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        config = uvicorn.Config(application(context), log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started, 30)
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(
                base_url=address, timeout=30, headers={**FROM_HERE, **(headers or {})}, trust_env=False
            ) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def operator(client: httpx.Client, context: Context) -> httpx.Client:
    return signed_in(client, context, "ana")


@pytest.fixture
def viewer(client: httpx.Client, context: Context) -> httpx.Client:
    return signed_in(client, context, "vera")


def signed_in(client: httpx.Client, context: Context, name: str) -> httpx.Client:
    """Sign the client in as this user without a password, and return the client."""
    with context.database.write() as session:
        found = users.credential_of(session, context.settings, name)
        assert found is not None
        person = users.SignedIn(name, found.role, users.fingerprint(found.password_hash))
        secret = sessions.begin(session, person, context.settings, "127.0.0.0/24")
        client.cookies.set("r8scan", sessions.signed(secret, sessions.signing_key(session)))
    return client


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD) -> httpx.Client:
    answer = client.post("/console/sign-in", data={"name": name, "password": password})
    assert answer.status_code == 303, answer.text
    return client


def newest_incident(context: Context, **values: object) -> uuid.UUID:
    with context.database.read() as session:
        statement = select(Incident.id).filter_by(**values).order_by(Incident.detected_at.desc()).limit(1)
        return session.execute(statement).scalar_one()

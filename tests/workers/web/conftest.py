"""Pytest fixtures that run real HTTP servers and provide clients for them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from scanner.child_processes import start_child
from scanner.records.database import Database
from scanner.records.schema import upgrade
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.world import until

Serve = Callable[[list[Route]], httpx.Client]
ROUTE = "/github/secret-scanning"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Yield a function that runs a server with the given routes and returns an HTTP client."""
    with ExitStack() as stack:
        yield lambda routes: stack.enter_context(_client(routes))


@contextmanager
def _client(routes: list[Route]) -> Iterator[httpx.Client]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(Starlette(routes=routes), log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started, 30)
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def own_database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    upgrade(database)
    yield database
    database.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "serve.log"


@pytest.fixture
def server(server_process: tuple[httpx.Client, int]) -> httpx.Client:
    """Return an HTTP client for a running `r8scan serve`."""
    return server_process[0]


@pytest.fixture
def server_process(
    sandbox: SandboxGitHub, own_database: Database, tmp_path: Path, log: Path
) -> Iterator[tuple[httpx.Client, int]]:
    """Run `r8scan serve` in a separate process. Yield an HTTP client for it, and the process id."""
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "R8SCAN_STATE_DIR": str(tmp_path / "state"),
        "R8SCAN_GITHUB_API_URL": sandbox.api_url,
        "R8SCAN_GITHUB_WEB_URL": sandbox.url,
        "R8SCAN_WEB_PORT": str(port),
    }
    with log.open("wb") as output:
        child = start_child([sys.executable, "-m", "workers", "serve"], env=env, stdout=output, stderr=output)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)
    try:
        until(lambda: child.poll() is not None or answers(client), 90)
        yield client, child.pid
    finally:
        client.close()
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def alert(sandbox: SandboxGitHub, server: httpx.Client, body: bytes, **headers: str) -> httpx.Response:
    return server.post(ROUTE, content=body, headers={**sandbox.signer.headers(body), **headers})

"""A real server for what the service answers over HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from workers.sandbox.world import until

Serve = Callable[[list[Route]], httpx.Client]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves routes on loopback; what it returns is a client of that server."""
    with ExitStack() as stack:
        yield lambda routes: stack.enter_context(_client(routes))


@contextmanager
def _client(routes: list[Route]) -> Iterator[httpx.Client]:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        config = uvicorn.Config(Starlette(routes=routes), log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]})
        thread.start()
        try:
            until(lambda: server.started, 30)
            with httpx.Client(base_url=f"http://127.0.0.1:{own.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()

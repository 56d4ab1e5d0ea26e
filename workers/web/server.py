"""Runs the web application in one process, with limits on connections, headers and times."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from collections import Counter

import uvicorn
from starlette.types import ASGIApp

from workers.health import pulse
from workers.web import refusals
from workers.web.connections import ConnectionTable, Network
from workers.web.protocol import bounded_protocol

MAX_HEAD_BYTES = 16 * 1024
RECEIVE_BUFFER_BYTES = 64 * 1024
"""The size of each connection's receive buffer, which limits the memory for one read."""
BACKLOG = 1024
MAX_ACCEPTED_AT_ONCE = 16
"""The maximum number of connections to accept before received data is read.

Otherwise, many new connections at once could make the server close a connection whose request it has not read yet.
"""
IDLE_SECONDS = 10
STOP_SECONDS = 20
LOG_INTERVAL_SECONDS = 60.0
"""The minimum time between two log lines about refused and closed connections."""

_log = logging.getLogger(__name__)


class CannotListen(Exception):
    """Raised if the server cannot listen on an address."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on this address and port.

    Raises:
        CannotListen: The address is invalid, or the port is in use or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as err:
        taken = isinstance(err, OSError) and err.errno == errno.EADDRINUSE
        reason = "something else listens there" if taken else getattr(err, "strerror", None) or str(err)
        raise CannotListen(f"cannot listen on {host}:{port} ({reason}): set --host and --port") from err
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return listening


def serve(application: ASGIApp, listening: socket.socket, trusted_proxies: str | None = None) -> None:
    """Serve requests until SIGINT or SIGTERM. Then finish the running requests and return.

    Args:
        trusted_proxies: The addresses or networks of proxies, separated by commas. The header X-Forwarded-For of their
            requests names the client.
    """
    table = ConnectionTable(_networks(trusted_proxies))
    config = uvicorn.Config(
        application,
        loop="asyncio",
        log_config=None,
        # Log only errors, because uvicorn logs each malformed request at a lower level.
        log_level="error",
        access_log=False,
        lifespan="off",
        http=bounded_protocol(table),
        ws="none",
        server_header=False,
        proxy_headers=trusted_proxies is not None,
        forwarded_allow_ips=trusted_proxies or "",
        backlog=MAX_ACCEPTED_AT_ONCE,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    asyncio.run(_serve(uvicorn.Server(config), listening, table))


async def _serve(server: uvicorn.Server, listening: socket.socket, table: ConnectionTable) -> None:
    tasks = [asyncio.create_task(_log_refusals(server, listening, table)), asyncio.create_task(_show_life())]
    try:
        await server.serve(sockets=[listening])
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _show_life() -> None:
    """Record once a second that the event loop is still running."""
    while True:
        pulse.current().work()
        await asyncio.sleep(1.0)


async def _log_refusals(server: uvicorn.Server, listening: socket.socket, table: ConnectionTable) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    # Let more connections wait to be accepted than asyncio does by default.
    listening.listen(BACKLOG)
    told = Counter[str]()
    while True:
        await asyncio.sleep(LOG_INTERVAL_SECONDS)
        refusals.of_this_process.flush()
        if news := table.counts - told:
            told = table.counts.copy()
            _log.warning("connections were refused or closed: %s", ", ".join(f"{news[one]} {one}" for one in news))


def _networks(trusted: str | None) -> tuple[Network, ...]:
    parts = (part.strip() for part in (trusted or "").split(","))
    return tuple(ipaddress.ip_network(part, strict=False) for part in parts if part)

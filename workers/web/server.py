"""Runs the web application: one process, bounded in connections, headers and time."""

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
from workers.web.connections import ConnectionTable, Network
from workers.web.protocol import bounded_protocol

MAX_HEAD_BYTES = 16 * 1024
RECEIVE_BUFFER_BYTES = 64 * 1024
"""Of each connection, so that one read never brings more than this into memory."""
BACKLOG = 1024
MAX_ACCEPTED_AT_ONCE = 16
"""Before what others have sent is read: a flood of newcomers must not push out a client whose request has arrived."""
IDLE_SECONDS = 10
STOP_SECONDS = 20
LOG_INTERVAL_SECONDS = 60.0
"""Connections that were refused or closed are told in one log line each minute, by reason."""

_log = logging.getLogger(__name__)


class CannotListen(Exception):
    """The address cannot be had; the text says why in one line."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. CannotListen."""
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
    """Serve until SIGINT or SIGTERM; requests in hand are finished.

    Args:
        application: What answers.
        listening: A listening socket.
        trusted_proxies: Addresses or networks, separated by commas, whose X-Forwarded-For is believed, read from the
            right. Nobody else's is.
    """
    table = ConnectionTable(_networks(trusted_proxies))
    config = uvicorn.Config(
        application,
        loop="asyncio",
        log_config=None,
        # uvicorn warns of each malformed request, which anybody can send as often as they like.
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
    """Say each second that the loop which answers requests goes round."""
    while True:
        pulse.current().work()
        await asyncio.sleep(1.0)


async def _log_refusals(server: uvicorn.Server, listening: socket.socket, table: ConnectionTable) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    # asyncio takes one number for both: how many connections it accepts at once, and how many the kernel lets wait.
    listening.listen(BACKLOG)
    told = Counter[str]()
    while True:
        await asyncio.sleep(LOG_INTERVAL_SECONDS)
        if news := table.counts - told:
            told = table.counts.copy()
            _log.warning("connections were refused or closed: %s", ", ".join(f"{news[one]} {one}" for one in news))


def _networks(trusted: str | None) -> tuple[Network, ...]:
    parts = (part.strip() for part in (trusted or "").split(","))
    return tuple(ipaddress.ip_network(part, strict=False) for part in parts if part)

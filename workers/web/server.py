"""Runs the web application: one process, bounded in connections, headers and time."""

from __future__ import annotations

import errno
import socket

import anyio.to_thread
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

THREADS = 16
MOST_CONNECTIONS = 200
LARGEST_HEAD = 32 * 1024
IDLE_SECONDS = 15
STOP_SECONDS = 20


class CannotListen(Exception):
    """The address cannot be had; the text says why in one line."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. CannotListen."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        own = socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as err:
        taken = isinstance(err, OSError) and err.errno == errno.EADDRINUSE
        reason = "something else listens there" if taken else getattr(err, "strerror", None) or str(err)
        raise CannotListen(f"cannot listen on {host}:{port} ({reason}): set --host and --port") from err
    return own


def serve(application: ASGIApp, own: socket.socket, trusted_proxies: str | None = None) -> None:
    """Serve until SIGINT or SIGTERM; requests in hand are finished.

    `trusted_proxies`: addresses or networks that are believed about who asks; nobody else is.
    """
    config = uvicorn.Config(
        _with_threads(application),
        log_config=None,
        access_log=False,
        lifespan="off",
        http="h11",
        ws="none",
        server_header=False,
        proxy_headers=trusted_proxies is not None,
        forwarded_allow_ips=trusted_proxies or "",
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=LARGEST_HEAD,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[own])


def _with_threads(application: ASGIApp) -> ASGIApp:
    """The application, with no more threads for blocking work than the database has connections."""

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await application(scope, receive, send)

    return bounded

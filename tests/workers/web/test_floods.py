"""Tests that `r8scan serve` still answers a signed alert during floods of requests or connections."""

from __future__ import annotations

import json
import socket
import sqlite3
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from gzip import compress

import httpx
import psutil
import pytest

from scanner.records.database import Database
from tests.scanner.sources.knowing import is_disabled, know
from tests.workers.web.conftest import ROUTE, alert
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.world import until
from workers.web.connections import MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS

Token = Callable[[], str]
Connect = Callable[..., socket.socket]
HEAD = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def connect(server: httpx.Client) -> Iterator[Connect]:
    """Yield a function that connects to the server from a given loopback address and sends bytes."""
    with ExitStack() as stack:

        def opened(sent: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
            address = ("127.0.0.1", server.base_url.port)
            connection = stack.enter_context(socket.create_connection(address, timeout=60, source_address=(source, 0)))
            connection.sendall(sent)
            return connection

        yield opened


def is_closed(connection: socket.socket) -> bool:
    """Wait for the server. Return True if it closes the connection without sending anything."""
    try:
        return connection.recv(1000) == b""
    except ConnectionError:
        return True


def signed_head(sandbox: SandboxGitHub, length: int) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in sandbox.signer.headers(b"[]").items())
    return f"{HEAD}{lines}Content-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize("sent", [b"", b"POST / HT", HEAD.encode()], ids=["nothing", "half a line", "half a head"])
def test_a_connection_that_sends_no_complete_request_head_is_closed(connect: Connect, sent: bytes) -> None:
    assert is_closed(connect(sent))


def test_a_request_head_that_arrives_byte_by_byte_is_cut_off(connect: Connect) -> None:
    connection = connect()
    connection.settimeout(0.2)

    def is_over() -> bool:
        try:
            connection.sendall(b"x")
            return connection.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    assert until(is_over, 60)


def test_a_second_request_head_has_a_time_limit_too(connect: Connect) -> None:
    connection = connect(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.recv(5000).startswith(b"HTTP/1.1 404")
    connection.sendall(b"GET /no")
    while connection.recv(5000):
        pass


def test_a_body_that_arrives_too_slowly_is_refused(
    connect: Connect, sandbox: SandboxGitHub, server: httpx.Client
) -> None:
    # Send one alert first, because the server fetches GitHub's public keys at the first alert.
    assert alert(sandbox, server, b"[]").status_code == 200
    connection = connect(signed_head(sandbox, 1000) + b"[")
    assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_too_many_headers_and_too_long_ones_are_refused(connect: Connect) -> None:
    many = "".join(f"X-{number}: 1\r\n" for number in range(100))
    assert connect(f"GET /health HTTP/1.1\r\nHost: x\r\n{many}\r\n".encode()).recv(100).startswith(b"HTTP/1.1 431")
    assert connect(b"GET /health HTTP/1.1\r\nX: " + b"x" * 40_000).recv(100).startswith(b"HTTP/1.1 400")


def test_a_body_of_tiny_chunks_is_cut_off(connect: Connect, sandbox: SandboxGitHub, server: httpx.Client) -> None:
    assert alert(sandbox, server, b"[]").status_code == 200
    head = signed_head(sandbox, 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    connection = connect(head)
    with pytest.raises(ConnectionError):  # noqa: PT012 - one of the sends fails, it is not known which
        while True:
            connection.sendall(b"1\r\n \r\n" * 10_000)


def test_a_signed_alert_is_answered_beside_silent_connections_from_the_same_address(
    connect: Connect, sandbox: SandboxGitHub, server: httpx.Client
) -> None:
    held = [connect() for _ in range(MAX_CONNECTIONS_PER_ADDRESS + 40)]
    assert alert(sandbox, server, b"[]").status_code == 200
    assert sum(map(is_closed, held)) == len(held)


def test_a_signed_alert_is_answered_when_many_networks_hold_all_connections(
    connect: Connect, sandbox: SandboxGitHub, server: httpx.Client
) -> None:
    for number in range(MAX_CONNECTIONS + 60):
        connect(b"", f"127.{1 + number % 6}.0.{1 + number % 50}")
    assert alert(sandbox, server, b"[]").status_code == 200
    assert server.get("/health").status_code == 200


def test_large_unsigned_bodies_take_no_memory(
    connect: Connect, sandbox: SandboxGitHub, server_process: tuple[httpx.Client, int]
) -> None:
    server, pid = server_process
    assert alert(sandbox, server, b"[]").status_code == 200
    before = psutil.Process(pid).memory_info().rss
    size = 10 * 1024 * 1024
    for _ in range(100):
        answer = server.post(ROUTE, content=b" " * size)
        assert answer.status_code == 403
    known = {**sandbox.signer.headers(b"[]"), "Github-Public-Key-Signature": "AAAA"}
    held = [connect(signed_head(sandbox, size)) for _ in range(100)]
    for connection in held:
        connection.setblocking(False)
    for _ in range(40):
        for connection in held:
            try:
                connection.send(b" " * 65536)
            except (BlockingIOError, ConnectionError):
                continue
    assert server.post(ROUTE, content=b" " * size, headers=known).status_code in (403, 413, 503)
    assert psutil.Process(pid).memory_info().rss - before < 120 * 1024 * 1024
    assert alert(sandbox, server, b"[]").status_code == 200


def hang() -> str:
    """Return a URL that contains a compressed SQLite file with an endless computation."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t(a)")
        connection.execute("INSERT INTO t VALUES(1)")
        connection.execute("PRAGMA writable_schema=ON")
        column = "b AS (instr(CAST(hex(zeroblob(24000000)) AS BLOB), CAST(hex(zeroblob(12000000))||'1' AS BLOB)))"
        connection.execute("UPDATE sqlite_master SET sql=?", (f"CREATE TABLE t(a,{column})",))
        return f"https://paste.example/{b64encode(compress(connection.serialize())).decode().replace('/', '%2F')}"


def test_addresses_made_to_hang_a_decoder_block_no_thread(
    server: httpx.Client, sandbox: SandboxGitHub, own_database: Database, fresh_token: Token
) -> None:
    with ExitStack() as stack:
        # Send from three networks, because the server limits the requests of a single network.
        clients = [
            stack.enter_context(
                httpx.Client(
                    base_url=server.base_url,
                    transport=httpx.HTTPTransport(local_address=f"127.0.{number}.1"),
                    timeout=60,
                )
            )
            for number in range(1, 4)
        ]
        for number in range(24):
            body = {"token": fresh_token(), "url": hang()}
            assert clients[number % 3].post("/leaked-token", json=body).status_code == 202
    token = fresh_token()
    digest = know(own_database, token)
    assert alert(sandbox, server, json.dumps([{"token": token}]).encode()).status_code == 200
    assert is_disabled(own_database, digest)
    assert server.get("/health").json() == {"status": "ok"}


def test_six_networks_cannot_use_up_what_finders_of_all_networks_share(
    server: httpx.Client, fresh_token: Token
) -> None:
    statuses = []
    for network in range(1, 8):
        transport = httpx.HTTPTransport(local_address=f"127.0.{network}.1")
        with httpx.Client(base_url=server.base_url, transport=transport, timeout=60) as finder:
            statuses.append(
                [finder.post("/leaked-token", json={"token": fresh_token()}).status_code for _ in range(12)]
            )
    assert all(429 in six for six in statuses[:6])
    assert statuses[6][0] == 202

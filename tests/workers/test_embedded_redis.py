"""Tests for the Redis server that `r8scan run` starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from workers import embedded_redis

OWNER = """
import pathlib, signal, sys
from workers import embedded_redis
child = embedded_redis.start(pathlib.Path(sys.argv[1]))
print(child.pid, flush=True)
signal.pause()
"""


def test_redis_answers_on_a_private_socket_only(tmp_path: Path) -> None:
    child = embedded_redis.start(tmp_path)
    try:
        socket = embedded_redis.socket_path(tmp_path)
        assert socket.parent.stat().st_mode & 0o077 == 0
        client = redis.Redis(unix_socket_path=str(socket))
        assert client.ping()
        assert client.config_get("port") == {"port": "0"}
        client.close()
    finally:
        child.kill()
        child.wait()


def test_redis_refuses_values_that_would_fill_the_memory_of_a_worker(tmp_path: Path) -> None:
    child = embedded_redis.start(tmp_path)
    try:
        client = redis.Redis(unix_socket_path=str(embedded_redis.socket_path(tmp_path)))
        client.lpush("polling", b"x" * 1_000_000)
        with pytest.raises(redis.RedisError):
            client.lpush("polling", b"x" * 1_100_000)
        client.close()
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_redis_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    descriptor = os.pidfd_open(pid)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    ready, _, _ = __import__("select").select([descriptor], [], [], 30)
    os.close(descriptor)
    assert ready, "redis-server outlived its owner"


def test_a_long_state_folder_gets_a_short_socket(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    assert len(os.fsencode(embedded_redis.socket_path(long))) < 108


def test_without_any_redis_server_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("workers.embedded_redis.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(embedded_redis.RedisUnavailable, match="R8SCAN_REDIS_URL"):
        embedded_redis.server_binary()


def test_the_servers_of_the_system_come_before_the_one_of_the_virtual_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (("venv", "redis-server"), ("system", "valkey-server")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("#!/bin/sh\n")
        (tmp_path / folder / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path}/venv:{tmp_path}/system")
    assert embedded_redis.server_binary() == f"{tmp_path}/system/valkey-server"
    (tmp_path / "system" / "valkey-server").unlink()
    assert embedded_redis.server_binary() == f"{tmp_path}/venv/redis-server"

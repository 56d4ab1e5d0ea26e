"""Tests for the status messages to systemd."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanner.child_processes import start_child
from tests.systemd import notified
from workers.health import systemd
from workers.health.pulse import Pulse
from workers.health.systemd import INTERVAL_SECONDS, Notifier
from workers.sandbox.world import until


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@r8scan-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        yield listener, address


def heard(listening: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listening.recv(1000).decode())
        except BlockingIOError:
            return found


def test_a_process_is_ready_when_it_works_and_feeds_the_watchdog_only_by_working(
    listening: tuple[socket.socket, str],
) -> None:
    own, address = listening
    now = [0.0]
    pulse = Pulse(clock=lambda: now[0], notifier=Notifier(address, clock=lambda: now[0]))
    pulse.try_to_connect()
    assert heard(own) == []
    pulse.work()
    pulse.work()
    assert heard(own) == ["READY=1\nWATCHDOG=1"]
    now[0] += INTERVAL_SECONDS * 10
    assert heard(own) == []
    pulse.work()
    assert heard(own) == ["WATCHDOG=1"]
    now[0] += INTERVAL_SECONDS
    pulse.try_to_connect()
    assert heard(own) == ["WATCHDOG=1"]


def test_the_web_server_is_ready_and_feeds_the_watchdog_itself(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "R8SCAN_STATE_DIR": str(tmp_path / "state"),
        "R8SCAN_SOURCES": "",
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
    }
    with notified(tmp_path / "notify") as received, (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "workers", "serve", "--port", "0"]
        child = start_child(command, env=environment, stdout=log, stderr=log)
        try:
            until(lambda: len(received()) > 1 or child.poll() is not None, 90)
        finally:
            child.terminate()
            child.wait(60)
        sent = received()
    assert sent[:2] == [(child.pid, "READY=1\nWATCHDOG=1"), (child.pid, "WATCHDOG=1")], (tmp_path / "log").read_text()


def test_without_systemd_nothing_is_sent_and_a_broken_socket_stops_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.current_notifier().alive()
    Notifier("/no/such/socket").alive()

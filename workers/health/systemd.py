"""Tells systemd when this process is ready, and then regularly that it still works.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

INTERVAL_SECONDS = 5.0
"""The minimum time between two messages to systemd. `WatchdogSec` in the unit file must be several times as long."""


class Notifier:
    """Sends messages to the socket that systemd names in NOTIFY_SOCKET. Without this variable, it does nothing."""

    # In a forked process, a notifier does nothing, because systemd accepts messages only from the main process.

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        # systemd writes @ for the zero byte at the beginning of an abstract socket's name.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._clock = clock
        self._sent_at: float | None = None
        self._process = os.getpid()

    def alive(self) -> None:
        """Tell systemd that the calling thread has just made progress."""
        now = self._clock()
        if (
            not self._address
            or os.getpid() != self._process
            or (self._sent_at is not None and now - self._sent_at < INTERVAL_SECONDS)
        ):
            return
        is_first, self._sent_at = self._sent_at is None, now
        self._send("READY=1\nWATCHDOG=1" if is_first else "WATCHDOG=1")

    def _send(self, message: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
            try:
                listener.sendto(message.encode(), self._address)
            except OSError:
                # Ignore the error: systemd ends a process from which it receives no messages.
                return


def current_notifier() -> Notifier:
    """Return a notifier for this process."""
    return Notifier(os.environ.get("NOTIFY_SOCKET", ""))

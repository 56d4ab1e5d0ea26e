"""A deadline for a whole conversation with a server, which no server can extend by sending slowly."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from typing import Any

GRACE_SECONDS = 2.0
"""The socket's own time-out is this much later than the deadline."""

_Addresses = list[tuple[Any, ...]]


class SocketWatchdog:
    """A timer that shuts a socket down at a deadline, so that a blocking call on the socket ends."""

    def __init__(self, deadline: float) -> None:
        """Create the timer. `guard` starts it.

        Args:
            deadline: The time of `time.monotonic` at which the conversation must end.
        """
        self._deadline = deadline
        self._guarded: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self.has_expired = False

    @property
    def left(self) -> float:
        """Return the seconds until the deadline, but at least 0.01."""
        # The result is used as a socket's time-out, for which 0 would mean "do not block".
        return max(self._deadline - time.monotonic(), 0.01)

    @property
    def is_over(self) -> bool:
        """Return whether the deadline has passed."""
        return time.monotonic() >= self._deadline

    def guard(self, connection: socket.socket) -> None:
        """Start the timer for this connection."""
        # Keep a duplicate, because the original socket cannot be used after the caller has wrapped the connection in
        # TLS.
        connection.settimeout(self.left + GRACE_SECONDS)
        self._guarded = socket.socket(fileno=os.dup(connection.fileno()))
        self._timer = threading.Timer(self.left, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def dismiss(self) -> None:
        """Stop the timer. The connection stays open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._guarded is not None:
            self._guarded.close()

    def _expire(self) -> None:
        self.has_expired = True
        if self._guarded is not None:
            with contextlib.suppress(OSError):  # the other side has already closed it
                self._guarded.shutdown(socket.SHUT_RDWR)


def connect(host: str, port: int, watchdog: SocketWatchdog) -> socket.socket:
    """Open a TCP connection to the first address of the host that accepts one.

    Raises:
        OSError: the name cannot be resolved, or no address accepts a connection before the deadline.
    """
    last: OSError = TimeoutError("no address answered in time")
    for family, kind, protocol, _, address in _resolve(host, port, watchdog.left):
        if watchdog.is_over:
            break
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(watchdog.left)
            connection.connect(address)
        except OSError as err:
            connection.close()
            last = err
        else:
            return connection
    raise last


def _resolve(host: str, port: int, seconds: float) -> _Addresses:
    """Return the addresses of the host, within a time limit."""
    answers: queue.SimpleQueue[_Addresses | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as err:
            answers.put(err)
        except UnicodeError:
            answers.put(OSError(f"{host} is not a valid host name"))

    # Look the name up in a thread, because `getaddrinfo` has no time-out.
    threading.Thread(target=look_up, name="resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"the name {host} was not resolved in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer

"""One deadline over a whole network exchange: time-outs of single reads do not bound a server that drips bytes."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from typing import Any

GRACE_SECONDS = 2.0

_Addresses = list[tuple[Any, ...]]


class Watchdog:
    """Shuts the socket it guards when the deadline passes, whatever the other thread is waiting for in it."""

    def __init__(self, deadline: float) -> None:
        """`deadline` by `time.monotonic`."""
        self._deadline = deadline
        self._guarded: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self.has_bitten = False

    @property
    def left(self) -> float:
        """Seconds that are left, never less than a hundredth: a time-out of zero would mean something else."""
        return max(self._deadline - time.monotonic(), 0.01)

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def guard(self, connection: socket.socket) -> None:
        """Watch this connection from now on."""
        # A duplicate, since wrapping in TLS takes the descriptor away from the object that we were given.
        # The watchdog comes first; the socket's own time-out is only there should it fail.
        connection.settimeout(self.left + GRACE_SECONDS)
        self._guarded = socket.socket(fileno=os.dup(connection.fileno()))
        self._timer = threading.Timer(self.left, self._bite)
        self._timer.daemon = True
        self._timer.start()

    def dismiss(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._guarded is not None:
            self._guarded.close()

    def _bite(self) -> None:
        self.has_bitten = True
        if self._guarded is not None:
            with contextlib.suppress(OSError):  # closed by the other side already
                self._guarded.shutdown(socket.SHUT_RDWR)


def connect(host: str, port: int, watchdog: Watchdog) -> socket.socket:
    """A TCP connection to the first address that answers in time. OSError when none does."""
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
    """Look the name up in a thread, as nothing else bounds how long that takes."""
    answers: queue.SimpleQueue[_Addresses | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as err:
            answers.put(err)
        except UnicodeError:
            answers.put(OSError(f"{host} is no host name"))

    threading.Thread(target=look_up, name="resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"the name {host} was not resolved in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer

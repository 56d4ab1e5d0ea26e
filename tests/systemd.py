"""A replacement for systemd in tests: a socket that receives the status messages of services."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CREDENTIALS = struct.Struct("iii")  # Linux's struct ucred: process id, user id, group id


@contextmanager
def notified(address: Path) -> Iterator[Callable[[], list[tuple[int, str]]]]:
    """Listen on a socket at `address`. Yield a function that returns the sender's process id and the text of each
    message.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind(str(address))

        found: list[tuple[int, str]] = []

        def received() -> list[tuple[int, str]]:
            while True:
                try:
                    message, ancillary, _, _ = listener.recvmsg(1000, socket.CMSG_SPACE(_CREDENTIALS.size))
                except BlockingIOError:
                    return found
                found.append((_CREDENTIALS.unpack(ancillary[0][2])[0], message.decode()))

        yield received

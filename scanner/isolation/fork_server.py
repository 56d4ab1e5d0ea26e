"""The fork server: a process with all decoders loaded, which forks confined processes on request.

It reads no hostile content, and ends together with the service process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import struct
import sys

from scanner.child_processes import die_with_parent
from scanner.detection.limits import Limits
from scanner.detection.loading import load_decoders
from scanner.detection.patterns.token_formats import parse_formats, use_formats
from scanner.isolation import reader

FORK, KILL, SLOW = b"f", b"k", b"s"
"""The commands: start a confined process, end it, or lower its priority."""
COMMAND = struct.Struct("<cI")
PROCESS = struct.Struct("<I")
SLOW_NICENESS = 5
REAP_SECONDS = 2.0


def main(descriptor: int, formats: str) -> None:
    """Execute commands from the socket `descriptor` until its other end is closed.

    Args:
        descriptor: The file descriptor of the socket.
        formats: The token formats to look for, as text that `parse_formats` can read.
    """
    use_formats(parse_formats(formats))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    os.chdir("/")
    load_decoders()
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=descriptor)
    control.sendall(PROCESS.pack(os.getpid()))
    _Server(control).run()


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._readers: set[int] = set()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            while True:
                ready = selector.select(REAP_SECONDS if self._readers else None)
                self._reap()
                if ready and not self._step(selector):
                    break
        for process in self._readers:
            _signal(process, signal.SIGKILL)

    def _step(self, selector: selectors.BaseSelector) -> bool:
        """Execute one command of the service process. Return False if the service process has ended."""
        message, descriptors, _, _ = socket.recv_fds(self._control, COMMAND.size, 1)
        if len(message) < COMMAND.size:
            return False
        command, process = COMMAND.unpack(message)
        if command == FORK and descriptors:
            self._fork(descriptors[0], selector)
        elif process in self._readers and command == KILL:
            _signal(process, signal.SIGKILL)
        elif process in self._readers and command == SLOW:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process, SLOW_NICENESS)
        return True

    def _fork(self, descriptor: int, selector: selectors.BaseSelector) -> None:
        server = os.getpid()
        process = os.fork()
        if process:
            os.close(descriptor)
            self._readers.add(process)
            self._control.sendall(PROCESS.pack(process))
            return
        status = 1
        try:
            selector.close()
            self._control.close()
            die_with_parent(server)
            status = reader.run(socket.socket(fileno=descriptor), Limits())
        finally:
            os._exit(status)

    def _reap(self) -> None:
        while self._readers:
            process, _ = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            self._readers.discard(process)


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

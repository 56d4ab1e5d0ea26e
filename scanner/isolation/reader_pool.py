"""The pool of confined processes that open documents for one service process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import scanner
from scanner.detection.deep_reading import DeepReading
from scanner.detection.git.pack_scanning import PackAnswer, PackRequest, PackScan
from scanner.detection.limits import Limits
from scanner.detection.patterns.token_formats import active_formats, written_formats
from scanner.isolation import fork_server, messages, pack_messages

DEFAULT_SIZE = 8
"""The number of confined processes for one service process."""
MAX_IDLE = 2
SLOW_AFTER_SECONDS = 0.5
"""After this much processor time for one document, a process runs at low priority."""
GRACE_SECONDS = 2.0
"""A confined process that exceeds its processor time by this much is killed."""
START_SECONDS = 30.0
MAX_STRETCH = 4.0
"""The elapsed time for a document may be at most this many times its limit of processor time."""
LOOK_SECONDS = 0.5
DEATH_COSTS_SECONDS = 1.0
"""At least this many seconds are counted for a document whose process died."""
CALL_COSTS_SECONDS = 0.0005
"""Seconds that are counted for sending a document and receiving the answer."""
MAX_STARTS = 3
LOGGED_ABOVE_SECONDS = 0.5

_ROOT = str(Path(scanner.__file__).parent.parent)
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[2]);"
    "from scanner.isolation.fork_server import main; main(int(sys.argv[1]), sys.argv[3])"
)

T = TypeVar("T")

_log = logging.getLogger(__name__)


class ReadersUnavailable(Exception):
    """No confined process can be started. Try the document again later."""


@dataclass(slots=True, eq=False)
class _Reader:
    process: int
    connection: socket.socket
    server: _ForkServer


class _Failure(NamedTuple):
    """Why a confined process gave no answer, and the processor seconds that the document cost."""

    reason: str
    seconds: float


class ReaderPool:
    """A pool of confined processes that the threads of one service process share.

    Args:
        size: The number of documents and packs that can be read at the same time. Further callers wait.
        limits: The limits of each document.
    """

    def __init__(self, size: int = DEFAULT_SIZE, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._size = size
        self._reset()
        pool = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _start_anew(pool()))

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(self._size)
        self._idle: list[_Reader] = []
        self._server: _ForkServer | None = None

    def read(
        self,
        content: bytes,
        name: str,
        *,
        seconds: float | None = None,
        expanded_bytes: int | None = None,
        patience: float | None = None,
    ) -> DeepReading:
        """Let a confined process find every token in the document and in the files inside it.

        Args:
            content: The document. It may be hostile.
            name: The beginning of the path of each finding, for example "a.zip" in "a.zip!/b.txt".
            seconds: The limit of processor seconds, at most and by default `limits.seconds`.
            expanded_bytes: The limit of decompressed and decoded bytes, at most and by default `limits.expanded_bytes`.
            patience: Seconds to wait for a free process before the document counts as unread (`reader_busy`).

        Raises:
            ReadersUnavailable: No confined process can be started.
        """
        if len(content) > messages.MAX_CONTENT_BYTES:
            return DeepReading((), {"reader_size": 1})
        limits = self._limits.reduced(seconds, expanded_bytes)
        if not self._free.acquire(timeout=patience):
            return DeepReading((), {"reader_busy": 1})
        try:
            reading = self._read(content, name, limits)
        finally:
            self._free.release()
        if reading.seconds > LOGGED_ABOVE_SECONDS and reading.unread:
            _log.warning(
                "a content was not read whole",
                extra={
                    "reasons": ",".join(sorted(reading.unread)),
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "bytes": len(content),
                },
            )
        return reading

    def read_pack(self, content: bytes, request: PackRequest) -> PackAnswer:
        """Let a confined process find the tokens in the objects of a git pack.

        Raises:
            ReadersUnavailable: No confined process can be started.
        """
        seconds = min(request.seconds, self._limits.seconds)
        request = replace(request, seconds=seconds)

        def converse(reader: _Reader, wait: Callable[[], None]) -> tuple[PackAnswer, bool]:
            pack_messages.send_pack(reader.connection, content, request)
            return pack_messages.receive_pack_answer(reader.connection, wait)

        with self._free:
            done = self._converse(converse, seconds)
        if not isinstance(done, _Failure):
            return replace(done, seconds=done.seconds + CALL_COSTS_SECONDS)
        _log.warning(
            "a pack was not read whole",
            extra={"reasons": done.reason, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
        )
        return PackAnswer(PackScan(), (), done.seconds, done.reason)

    def prepare(self) -> None:
        """Start a confined process in the background, so that the first document need not wait."""

        def start() -> None:
            with contextlib.suppress(ReadersUnavailable):  # reading the first document will report this
                self._give_back(self._taken(), keeps=True)

        threading.Thread(target=start, name="reader-start", daemon=True).start()

    def start_anew(self) -> None:
        """Forget the confined processes of the parent process. Call this in a child process after a fork."""
        idle, server = self._idle, self._server
        self._reset()
        for reader in idle:
            reader.connection.close()
        if server is not None:
            server.abandon()

    def close(self) -> None:
        """End every process of the pool. Documents that are still being read count as unread."""
        with self._lock:
            server, self._server = self._server, None
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.connection.close()
        if server is not None:
            server.close()

    def _read(self, content: bytes, name: str, limits: Limits) -> DeepReading:
        def converse(reader: _Reader, wait: Callable[[], None]) -> tuple[DeepReading, bool]:
            messages.send_request(reader.connection, content, name, limits.seconds, limits.expanded_bytes)
            wait()
            return messages.receive_answer(reader.connection)

        done = self._converse(converse, limits.seconds)
        if isinstance(done, _Failure):
            return DeepReading((), {done.reason: 1}, 0, done.seconds)
        return replace(done, seconds=done.seconds + CALL_COSTS_SECONDS)

    def _converse(
        self, converse: Callable[[_Reader, Callable[[], None]], tuple[T, bool]], seconds: float
    ) -> T | _Failure:
        """Let a confined process handle one request, and kill it if it takes too long.

        Returns:
            The answer, or the reason why there is no answer.
        """
        reader = self._taken()
        begun = time.monotonic()
        keeps = False
        try:
            spent = _processor_seconds(reader.process)
            reader.connection.settimeout(seconds + GRACE_SECONDS)
            answer, retires = converse(reader, lambda: _await_answer(reader, begun, spent, seconds + GRACE_SECONDS))
        except TimeoutError:
            return _Failure("reader_deadline", time.monotonic() - begun)
        except (OSError, messages.BadAnswer):
            # The kernel has killed the confined process, or hostile content controls it.
            return _Failure("reader_died", max(time.monotonic() - begun, DEATH_COSTS_SECONDS))
        else:
            keeps = not retires
            return answer
        finally:
            self._give_back(reader, keeps=keeps)

    def _taken(self) -> _Reader:
        """Return an idle confined process, or start a new one."""
        for _ in range(MAX_STARTS):
            with self._lock:
                if self._idle:
                    return self._idle.pop()
                if self._server is None:
                    self._server = _ForkServer()
                server = self._server
            try:
                return server.fork()
            except OSError:
                # The fork server has ended, so the next round of the loop starts another one.
                self._drop(server)
        raise ReadersUnavailable("no process for reading contents can be started")

    def _drop(self, server: _ForkServer) -> None:
        with self._lock:
            if self._server is server:
                self._server = None
        server.close()

    def _give_back(self, reader: _Reader, *, keeps: bool) -> None:
        with self._lock:
            if keeps and len(self._idle) < MAX_IDLE and self._server is reader.server:
                self._idle.append(reader)
                return
        if not keeps:
            reader.server.kill(reader.process)
        reader.connection.close()


class _ForkServer:
    """The connection to the fork server, a process that starts confined processes."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        formats = written_formats(active_formats())
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _PROGRAM, str(theirs.fileno()), _ROOT, formats],
                    pass_fds=[theirs.fileno()],
                    env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as err:
                ours.close()
                raise ReadersUnavailable(f"no process for reading contents can be started ({err.strerror})") from err
        self._control = ours
        self._control.settimeout(START_SECONDS)
        self._lock = threading.Lock()
        try:
            answer = self._control.recv(fork_server.PROCESS.size)
        except OSError:
            answer = b""
        if len(answer) < fork_server.PROCESS.size:
            self.close()
            raise ReadersUnavailable("the process that starts readers ended, or does not answer")

    def fork(self) -> _Reader:
        """Start a confined process and return it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                with self._lock:
                    command = fork_server.COMMAND.pack(fork_server.FORK, 0)
                    socket.send_fds(self._control, [command], [theirs.fileno()])
                    answer = self._control.recv(fork_server.PROCESS.size)
                if len(answer) < fork_server.PROCESS.size:
                    raise BrokenPipeError("the fork server has ended")
            except OSError:
                ours.close()
                raise
        return _Reader(fork_server.PROCESS.unpack(answer)[0], ours, self)

    def kill(self, process: int) -> None:
        """End the confined process with this process id, unless it has already ended."""
        self._tell(fork_server.KILL, process)

    def slow(self, process: int) -> None:
        self._tell(fork_server.SLOW, process)

    def _tell(self, command: bytes, process: int) -> None:
        with contextlib.suppress(OSError), self._lock:
            self._control.send(fork_server.COMMAND.pack(command, process))

    def abandon(self) -> None:
        """Close this process's connection to the parent's fork server, which continues to run."""
        self._control.close()
        self._process.returncode = 0

    def close(self) -> None:
        """End the fork server and every process that it has started."""
        self._control.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _await_answer(reader: _Reader, begun: float, spent_before: float, seconds: float) -> None:
    """Wait until a confined process answers or ends.

    Args:
        begun: When the process began to work, by the monotonic clock.
        spent_before: Processor seconds that the process had used before this request.
        seconds: Processor seconds that the work may take. The elapsed time may be up to MAX_STRETCH times as long.

    Raises:
        TimeoutError: The process has exceeded a limit.
    """
    is_slow = False
    while not select.select([reader.connection], [], [], LOOK_SECONDS)[0]:
        spent = _processor_seconds(reader.process) - spent_before
        waited = time.monotonic() - begun
        if not is_slow and spent > SLOW_AFTER_SECONDS:
            is_slow = True
            reader.server.slow(reader.process)
        if (waited > seconds and spent > seconds) or waited > MAX_STRETCH * seconds:
            raise TimeoutError("the reader is late")


def _processor_seconds(process: int) -> float:
    """Return the processor seconds that a process has used, or 0 if it has ended."""
    # Compute the clock id of the process, as clock_getcpuclockid(3) does on Linux.
    try:
        return time.clock_gettime((~process << 3) | 2)
    except OSError:
        return 0.0


def _start_anew(pool: ReaderPool | None) -> None:
    if pool is not None:
        pool.start_anew()


@functools.cache
def shared_pool() -> ReaderPool:
    """Return the pool that all callers in this process share. It is closed when the process exits."""
    pool = ReaderPool()
    atexit.register(pool.close)
    return pool

"""uvicorn's HTTP/1.1 protocol, with a deadline for each phase of a connection, such as receiving the headers."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Literal, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from workers.web.connections import ConnectionEntry, ConnectionTable

HEAD_SECONDS = 5.0
"""The maximum time in which the headers of a request must arrive."""
REQUEST_SECONDS = 45.0
"""The maximum time in which the body of a request must arrive. `read_body` has a lower limit."""
ANSWER_SECONDS = 120.0
"""The maximum time for producing the answer and sending it to the client."""
LINGER_SECONDS = 2.0
"""How long the server reads and discards the rest of a refused body, so that the client can read the answer."""
FLUSH_SECONDS = 10.0
"""When the server closes a connection, the maximum time in which the client must receive the rest of its answer."""
MIN_BYTES_PER_LINE_END = 12
"""A body with more than one line end per this many bytes is refused: its tiny chunks would cost too much CPU time."""
_LINE_ENDS_FREE = 64

Phase = Literal["head", "body", "answer", "idle", "over"]
_SECONDS: dict[Phase, float] = {"head": HEAD_SECONDS, "body": REQUEST_SECONDS, "answer": ANSWER_SECONDS}


class _Transport:
    """uvicorn's transport. Its `close` calls `BoundedProtocol.finish` instead of closing at once."""

    def __init__(self, inner: asyncio.Transport, owner: BoundedProtocol) -> None:
        self._inner = inner
        self._owner = owner

    def close(self) -> None:
        self._owner.finish()

    def is_closing(self) -> bool:
        return self._owner.is_over or self._inner.is_closing()

    def write(self, data: bytes) -> None:
        if not self.is_closing():
            self._inner.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class BoundedProtocol(H11Protocol):
    """The protocol object of one connection. `table` has the open connections of the server."""

    table: ClassVar[ConnectionTable]
    _entry: ConnectionEntry | None = None
    _phase: Phase = "idle"
    _timer: asyncio.TimerHandle | None = None
    _inner: asyncio.Transport

    @property
    def is_over(self) -> bool:
        """Return whether the connection is closed or being closed."""
        return self._phase == "over"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._inner = transport
        peer = transport.get_extra_info("peername")
        self._entry = self.table.admit(str(peer[0]) if peer else "", self._abort)
        if self._entry is None:
            self._phase = "over"
            transport.abort()
            return
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))
        self._enter("head")

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = "over"
        self._cancel_timer()
        if self._entry is not None:
            self.table.release(self._entry)
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_over:
            return
        if self._phase == "body" and self._is_minced(data):
            self.table.counts["closed_minced_body"] += 1
            self._abort()
            return
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        if self._entry is not None:
            self._entry.served += 1
        if self.conn.their_state is h11.SEND_BODY:
            # The request was refused before its whole body arrived, so the connection cannot be used again.
            self.server_state.total_requests += 1
            self.finish()
            return
        super().on_response_complete()
        self._look()

    def finish(self) -> None:
        """Close the connection after the response. First, read and discard the client's remaining data for a short
        time.
        """
        if self.is_over:
            return
        is_unread = self.conn.their_state in (h11.SEND_BODY, h11.ERROR)
        self._unset_keepalive_if_required()
        self._enter("over")
        if not is_unread or self._inner.is_closing() or not self._inner.can_write_eof():
            self._inner.close()
            self._timer = self.loop.call_later(FLUSH_SECONDS, self._inner.abort)
            return
        self.flow.resume_reading()
        self._inner.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self._inner.abort)

    def _look(self) -> None:
        """Set the deadline of the connection's current phase."""
        if self.is_over:
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None:
            self._enter("head")
        elif cycle.response_complete:
            # uvicorn sets `timeout_keep_alive_task` to None when the next request begins.
            self._enter("head" if self.timeout_keep_alive_task is None else "idle")
        else:
            self._enter("body" if cycle.more_body else "answer")

    def _enter(self, phase: Phase) -> None:
        if phase == self._phase:
            return
        self._phase = phase
        self._cancel_timer()
        if (seconds := _SECONDS.get(phase)) is not None:
            self._timer = self.loop.call_later(seconds, self._time_out)
        if self._entry is not None:
            self.table.wait(self._entry, phase != "answer")

    def _time_out(self) -> None:
        self.table.counts[f"closed_late_{self._phase}"] += 1
        self._abort()

    def _abort(self) -> None:
        self._phase = "over"
        self._cancel_timer()
        self._inner.abort()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_minced(self, data: bytes) -> bool:
        return data.count(b"\r\n") > len(data) // MIN_BYTES_PER_LINE_END + _LINE_ENDS_FREE


def bounded_protocol(table: ConnectionTable) -> type[asyncio.Protocol]:
    """Return the protocol class for one server. It adds the server's connections to `table`."""
    return type("ServerProtocol", (BoundedProtocol,), {"table": table})

"""How a finished message leaves the house: the protocol that deliveries use, and the errors they tell apart."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


class TransientFailure(Exception):
    """This message was not taken, but may be later. The message is the reason; no password is in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TransportDown(TransientFailure):
    """No message can go out now: the server is away, or it is set up wrongly. It says nothing about the recipient."""

    def __init__(self, reason: str, *, is_configuration: bool = False) -> None:
        super().__init__(reason)
        self.is_configuration = is_configuration


class PermanentFailure(Exception):
    """This message will never be taken for this recipient. The message is the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Envelope:
    """A finished message (CRLF line ends, 7 bit) and who it goes from and to. `message_id` names it for good."""

    sender: str
    recipient: str
    message_id: str
    content: bytes


class Outlet(Protocol):
    """Takes messages for the length of one run."""

    def send(self, envelope: Envelope, *, deadline: float) -> None:
        """Hand one over for good, by `deadline` (`time.monotonic`). TransientFailure, PermanentFailure."""


class Transport(Protocol):
    """A way out. Safe to share between threads: each run opens an outlet of its own."""

    def open(self) -> AbstractContextManager[Outlet]:
        """An outlet; it connects when the first message is sent. Raises nothing."""

"""Hostile inputs, their ways of delivery, and the registry of all of them. Builders register themselves here."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Delivery = Literal[
    "file",  # a file that `r8scan scan` reads, and a blob of a push or a file of a gist
    "history",  # a fast-import stream of a repository that `r8scan scan --history` reads
    "pack",  # a git server's answer to a fetch
    "comment",  # the body of an issue comment in a page of events
    "event",  # the JSON of one event in a page of events
    "alert",  # the body of a signed alert
    "leaked_token",  # the body of an anonymous request to /leaked-token
    "usage",  # the body of a batch of usage records
    "bounce",  # a mail that is handed over as a bounce
    "text",  # a text that is redacted: a log line, a path, a note
]


@dataclass(frozen=True, slots=True)
class HostileInput:
    """One hostile input.

    Attributes:
        attack: What it does, in one line.
        family: The container, decoder or route that it attacks.
        holds_leak: A leak is inside the input as well as beside it.
        is_large: Its size alone makes it take seconds to build or to read, so only `make attack-table` uses it.
        cannot_be_read: It cannot be read completely within the limits, so the result must count something as unread.
    """

    name: str
    family: str
    attack: str
    delivery: Delivery
    build: Callable[[bytes], bytes]
    holds_leak: bool = False
    is_large: bool = False
    cannot_be_read: bool = False

    def content(self) -> bytes:
        """Return the input's bytes. They are the same in each run."""
        return self.build(b"key = '" + self.leak + b"'\n")

    @property
    def leak(self) -> bytes:
        """The token inside the input, if it holds one."""
        return token_of(f"inside {self.name}")

    @property
    def neighbour(self) -> bytes:
        """The token in the document beside the input."""
        return token_of(f"beside {self.name}")


def token_of(name: str) -> bytes:
    """Return an invented token of the right form. It depends only on the name."""
    chance = random.Random(name)
    return ("r8" + "_" + "".join(chance.choices(string.ascii_letters + string.digits, k=37))).encode()


INPUTS: dict[str, HostileInput] = {}
"""Every hostile input by its name."""


def hostile(
    family: str, attack: str, *, delivery: Delivery = "file", large: bool = False, unread: bool = False
) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Register a builder of an input without a leak."""

    def register(build: Callable[[], bytes]) -> Callable[[], bytes]:
        name = build.__name__.replace("_", "-")
        INPUTS[name] = HostileInput(
            name, family, attack, delivery, lambda _: build(), is_large=large, cannot_be_read=unread
        )
        return build

    return register


def hostile_with_leak(
    family: str, attack: str, *, delivery: Delivery = "file", large: bool = False, unread: bool = False
) -> Callable[[Callable[[bytes], bytes]], Callable[[bytes], bytes]]:
    """Register a builder that puts the given leak into the input."""

    def register(build: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        name = build.__name__.replace("_", "-")
        INPUTS[name] = HostileInput(
            name, family, attack, delivery, build, holds_leak=True, is_large=large, cannot_be_read=unread
        )
        return build

    return register

"""The list of hostile inputs, and decorators that add an input to it."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Delivery = Literal[
    "file",  # the content of a file, which `r8scan scan` reads, or which is in a push or gist
    "history",  # a fast-import stream of a repository that `r8scan scan --history` reads
    "pack",  # a git server's answer to a fetch
    "comment",  # the body of an issue comment in a page of events
    "event",  # the JSON of one event in a page of events
    "alert",  # the body of a signed alert
    "leaked_token",  # the body of an anonymous request to /leaked-token
    "usage",  # the body of a batch of usage records
    "bounce",  # a mail that is given to `r8scan email bounced`
    "text",  # a text that is redacted, such as a log line, a path or a note
]


@dataclass(frozen=True, slots=True)
class HostileInput:
    """One hostile input.

    Attributes:
        name: The name of the function that builds the input, with hyphens.
        attack: What the input does, in one line.
        family: What the input attacks: a container format, decoder or HTTP route.
        delivery: How the input reaches r8scan.
        holds_leak: Whether the input contains a token.
        is_large: Whether the input takes seconds to build or to read.
        cannot_be_read: Whether r8scan must count something in the input as unread.
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
        """Return the bytes of the input."""
        return self.build(b"key = '" + self.leak + b"'\n")

    @property
    def leak(self) -> bytes:
        """The token in the input, if `holds_leak` is true."""
        return token_of(f"inside {self.name}")

    @property
    def neighbour(self) -> bytes:
        """A token in another document that is scanned together with the input."""
        return token_of(f"beside {self.name}")


def token_of(name: str) -> bytes:
    """Return an invented token of the default format. The same name always gives the same token."""
    chance = random.Random(name)
    return ("r8" + "_" + "".join(chance.choices(string.ascii_letters + string.digits, k=37))).encode()


INPUTS: dict[str, HostileInput] = {}
"""Every hostile input by its name."""


def _name(build: Callable[..., bytes]) -> str:
    return build.__name__.replace("_", "-")


def _add(one: HostileInput) -> None:
    if one.name in INPUTS:
        raise ValueError(f"two hostile inputs are named {one.name}")
    INPUTS[one.name] = one


def hostile(
    family: str, attack: str, *, delivery: Delivery = "file", large: bool = False, unread: bool = False
) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Return a decorator for a function that builds a hostile input without a token.

    Args:
        family: What the input attacks: a container format, decoder or HTTP route.
        attack: What the input does, in one line.
        delivery: How the input reaches r8scan.
        large: Whether the input takes seconds to build or to read.
        unread: Whether r8scan must count something in the input as unread.
    """

    def register(build: Callable[[], bytes]) -> Callable[[], bytes]:
        _add(
            HostileInput(
                _name(build), family, attack, delivery, lambda _: build(), is_large=large, cannot_be_read=unread
            )
        )
        return build

    return register


def hostile_with_leak(
    family: str, attack: str, *, delivery: Delivery = "file", large: bool = False, unread: bool = False
) -> Callable[[Callable[[bytes], bytes]], Callable[[bytes], bytes]]:
    """Return a decorator for a function that builds a hostile input around a line of text with a token.

    Args:
        family: What the input attacks: a container format, decoder or HTTP route.
        attack: What the input does, in one line.
        delivery: How the input reaches r8scan.
        large: Whether the input takes seconds to build or to read.
        unread: Whether r8scan must count something in the input as unread.
    """

    def register(build: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        _add(
            HostileInput(
                _name(build), family, attack, delivery, build, holds_leak=True, is_large=large, cannot_be_read=unread
            )
        )
        return build

    return register

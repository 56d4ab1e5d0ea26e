"""Functions that divide a token and put other text between the parts."""

from __future__ import annotations

import random
from collections.abc import Callable

Encoder = Callable[[bytes, random.Random], bytes]


def each(form: str, separator: str = "") -> Encoder:
    return lambda token, chance: separator.join(form % letter for letter in token).encode()


def cut(joint: bytes, first: int = 1, pieces: int = 2) -> Encoder:
    def encode(token: bytes, chance: random.Random) -> bytes:
        cuts = sorted(chance.sample(range(first, len(token)), pieces - 1))
        return joint.join(token[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(token)], strict=True))

    return encode


def cut_body(joint: bytes, pieces: int = 2) -> Encoder:
    return lambda token, chance: prefix_of(token) + cut(joint, 0, pieces)(body_of(token), chance)


def prefix_of(token: bytes) -> bytes:
    """Return the beginning of a token, up to and including the last `_` or `-` of its prefix."""
    return token[: max(token.rfind(b"_", 0, 10), token.rfind(b"-", 0, 10)) + 1]


def body_of(token: bytes) -> bytes:
    return token[len(prefix_of(token)) :]

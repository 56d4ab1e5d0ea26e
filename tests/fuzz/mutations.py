"""Damages sample files of every format at random, and checks how r8scan reads them.

Run: python -m tests.fuzz --mutations N
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable

from tests.fuzz.samples import CONTENT, TOKEN
from tests.fuzz.strategies import KEPT_HEAD, MAX_EDITS, MAX_REPEATS, NUMBERS
from tests.scanner.detection.container_builders import CONTAINERS
from tests.scanner.detection.token_encoders import ENCODINGS


def formats() -> list[str]:
    """Return the names of all file formats."""
    return [*CONTAINERS, *ENCODINGS]


def check_format(name: str, number: int, check: Callable[[bytes], None], before: Callable[[bytes], None]) -> float:
    """Check `number` damaged copies of a format's sample file. Return the CPU seconds of the slowest check.

    Args:
        name: The name of the format.
        number: The number of damaged copies.
        check: A function that raises an exception if r8scan reads the file wrongly.
        before: A function to call with each file before the check.
    """
    sample = _sample(name)
    slowest = 0.0
    for seed in range(number):
        damaged = mutated(sample, random.Random(f"{name} {seed}"))
        before(damaged)
        started = time.process_time()
        check(damaged)
        slowest = max(slowest, time.process_time() - started)
    return slowest


def _sample(name: str) -> bytes:
    if name in CONTAINERS:
        return CONTAINERS[name](CONTENT)
    return b"settings: " + ENCODINGS[name](TOKEN, random.Random(7)) + b"\n"


def mutated(sample: bytes, chance: random.Random) -> bytes:
    """Return a copy of the sample with one to MAX_EDITS random changes after the first KEPT_HEAD bytes."""
    content = bytearray(sample)
    for _ in range(chance.randint(1, MAX_EDITS)):
        if len(content) <= KEPT_HEAD:
            break
        at, span = chance.randrange(KEPT_HEAD, len(content)), chance.randint(1, 64)
        kind = chance.choice(("byte", "bit", "number", "number", "cut", "remove", "repeat", "insert", "move"))
        if kind == "byte":
            content[at] = chance.randrange(256)
        elif kind == "bit":
            content[at] ^= 1 << chance.randrange(8)
        elif kind == "number":
            form = chance.choice(("<I", ">I", "<H", ">H", "<Q", ">Q"))
            mask = 256 ** struct.calcsize(form) - 1
            content[at : at + struct.calcsize(form)] = struct.pack(form, chance.choice(NUMBERS) & mask)
        elif kind == "cut" and chance.random() < 0.3:
            del content[at:]
        elif kind == "remove":
            del content[at : at + span]
        elif kind == "repeat":
            content[at:at] = content[at : at + span] * chance.randint(1, MAX_REPEATS)
        elif kind == "insert":
            content[at:at] = chance.randbytes(span)
        else:
            start = chance.randrange(KEPT_HEAD, len(content))
            content[at:at] = content[start : start + span]
    return bytes(content)

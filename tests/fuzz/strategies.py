"""Hypothesis strategies for untrusted input: damaged samples, and JSON of any shape."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

MAX_EDITS = 8
MAX_REPEATS = 40
NUMBERS = (0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
KEPT_HEAD = 8
"""The number of bytes at the beginning that most edits do not change."""


@st.composite
def edited(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """Draw one of the samples with some of its bytes cut, repeated or overwritten."""
    content = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, MAX_EDITS))):
        if len(content) <= KEPT_HEAD:
            break
        at = draw(st.integers(KEPT_HEAD, len(content) - 1))
        _edit(draw, content, at)
    return bytes(content)


def _edit(draw: st.DrawFn, content: bytearray, at: int) -> None:
    kind = draw(st.sampled_from(("byte", "number", "cut", "remove", "repeat", "insert")))
    span = draw(st.integers(1, 64))
    if kind == "byte":
        content[at] = draw(st.integers(0, 255))
    elif kind == "number":
        form = draw(st.sampled_from(("<I", ">I", "<H", ">H", "<Q", ">Q")))
        mask = 256 ** struct.calcsize(form) - 1
        value = struct.pack(form, draw(st.sampled_from(NUMBERS)) & mask)
        content[at : at + len(value)] = value
    elif kind == "cut":
        del content[at:]
    elif kind == "remove":
        del content[at : at + span]
    elif kind == "repeat":
        content[at:at] = content[at : at + span] * draw(st.integers(1, MAX_REPEATS))
    else:
        content[at:at] = draw(st.binary(max_size=64))


@st.composite
def joined(draw: st.DrawFn, words: Sequence[bytes]) -> bytes:
    """Draw a text that joins some of these words, each up to MAX_REPEATS times."""
    parts = draw(st.lists(st.tuples(st.sampled_from(words), st.integers(1, MAX_REPEATS)), max_size=30))
    return b"".join(word * count for word, count in parts) + draw(st.binary(max_size=20))


def any_text() -> st.SearchStrategy[str]:
    """Return a strategy for text of any characters, including lone surrogates and NUL."""
    return st.text(st.characters(codec=None), max_size=60)


def any_json() -> st.SearchStrategy[Any]:
    """Return a strategy for JSON values of any shape, as Python values."""
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), any_text())
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(any_text(), inner, max_size=5)),
        max_leaves=20,
    )


def record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for JSON objects with these fields. A field may be missing or have any other JSON value."""
    loose = {name: st.one_of(strategy, any_json()) for name, strategy in fields.items()}
    return st.one_of(st.fixed_dictionaries(fields), st.fixed_dictionaries({}, optional=loose))

"""Collects all strings in a JSON value, within limits of depth and size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MAX_VALUES = 20_000
"""Limit of the values in one event."""
MAX_LEVELS = 12
TEXT_KEYS = ("body", "title", "description")
_END = object()


class Texts(NamedTuple):
    """The strings in a JSON value. `over` counts the limits that were reached, by name."""

    strings: list[str]
    over: Counter[str]


def strings_of(value: Mapping[str, Any]) -> Texts:
    """Return every string inside the value, the main text (for example an issue's body) first."""
    strings = [value[key] for key in TEXT_KEYS if isinstance(value.get(key), str)]
    over = Counter[str]()
    # Use iterators, so that a list of a million items is not copied.
    stack: list[Iterator[Any]] = [iter([part for key, part in value.items() if key not in TEXT_KEYS])]
    for _ in range(MAX_VALUES):
        part = next(stack[-1], _END)
        if part is _END:
            stack.pop()
            if not stack:
                return Texts(strings, over)
        elif isinstance(part, str):
            strings.append(part)
        elif isinstance(part, dict | list):
            if len(stack) < MAX_LEVELS:
                stack.append(iter(part.values() if isinstance(part, dict) else part))
            else:
                over["event_too_deep"] += 1
    over["event_too_large"] += 1
    return Texts(strings, over)

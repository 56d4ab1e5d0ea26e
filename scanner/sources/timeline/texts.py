"""Every piece of text inside decoded JSON, within limits. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

MAX_VALUES = 50_000
DEEPEST = 12
TEXT_KEYS = ("body", "title", "description")


def strings_of(value: Mapping[str, Any], counts: Counter[str]) -> Iterator[str]:
    """Every string inside the value, the long texts first, so that lines count from a body's own beginning.

    Reaching a limit is counted as `event_too_deep` or `event_too_large`.
    """
    for key in TEXT_KEYS:
        if isinstance(value.get(key), str):
            yield value[key]
    stack: list[tuple[Any, int]] = [(part, 1) for key, part in value.items() if key not in TEXT_KEYS]
    seen = 0
    while stack:
        part, level = stack.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict | list) and level < DEEPEST:
            stack.extend((item, level + 1) for item in (part.values() if isinstance(part, dict) else part))
        elif isinstance(part, dict | list):
            counts["event_too_deep"] += 1
        seen += 1
        if seen > MAX_VALUES:
            counts["event_too_large"] += 1
            return

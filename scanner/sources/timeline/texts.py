"""Extraction of all strings from decoded JSON, within limits. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

MAX_VALUES = 20_000
"""Limit of the steps through one event: each value and each end of a list is one. Ordinary events need below 1,000."""
MAX_LEVELS = 12
TEXT_KEYS = ("body", "title", "description")
_END = object()


def strings_of(value: Mapping[str, Any], counts: Counter[str]) -> Iterator[str]:
    """Yield every string inside the value. Yield the main texts first, so that line numbers match those of the body.

    Count a limit that is reached as `event_too_deep` or `event_too_large`.
    """
    for key in TEXT_KEYS:
        if isinstance(value.get(key), str):
            yield value[key]
    # Use iterators, so that a list of a million values costs no more than the limit allows.
    stack: list[Iterator[Any]] = [iter([part for key, part in value.items() if key not in TEXT_KEYS])]
    for _ in range(MAX_VALUES):
        part = next(stack[-1], _END)
        if part is _END:
            stack.pop()
            if not stack:
                return
        elif isinstance(part, str):
            yield part
        elif isinstance(part, dict | list):
            if len(stack) < MAX_LEVELS:
                stack.append(iter(part.values() if isinstance(part, dict) else part))
            else:
                counts["event_too_deep"] += 1
    counts["event_too_large"] += 1

"""Reader of saved event streams, such as the answers of chat models: `text/event-stream`, or one JSON object per
line.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from scanner.detection.containers.members import Container, Member, whole

_MAX_DEPTH = 8
_MAX_EVENT_BYTES = 1 << 20
_MAX_PATH = 200
"""The maximum number of letters in the path of a field. A longer path would be copied for each string below it."""


def event_stream_members(container: Container) -> Iterator[Member]:
    """Yield the joined strings of each JSON field that occurs in several events."""
    texts: dict[str, list[str]] = defaultdict(list)
    meter = container.meter
    for line in whole(container).splitlines():
        if not line.startswith((b"data:", b"{")) or len(line) > _MAX_EVENT_BYTES:
            continue
        meter.step(1)
        try:
            event = json.loads(line.removeprefix(b"data:"))
        except (ValueError, RecursionError):
            continue
        for path, text in _strings(event, "", 0):
            texts[path].append(text)
    for path, pieces in texts.items():
        if len(pieces) > 1:
            joined = "".join(pieces).encode("utf-8", "surrogatepass")
            meter.enter()
            meter.take(len(joined))
            yield Member(path, joined)


def _strings(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif depth < _MAX_DEPTH and isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, (f"{path}.{key}" if path else key)[:_MAX_PATH], depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, list):
        for inner in value:
            yield from _strings(inner, path, depth + 1)

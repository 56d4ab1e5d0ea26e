"""Reader of saved event streams, such as the answers of chat models."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from scanner.detection.containers.members import Container, Member, UnreadableError, whole

_MAX_DEPTH = 8
_MAX_EVENT_BYTES = 1 << 20
_MAX_ARRAY_BYTES = 8 << 20
"""The longest JSON array that is parsed. The parsed objects of hostile JSON take twenty times its size in memory."""
_MAX_PATH = 200
"""The maximum number of characters in the path of a JSON field."""


def event_stream_members(container: Container) -> Iterator[Member]:
    """Yield the joined strings of each JSON field that occurs in several events, and the joined texts of events."""
    texts: dict[str, list[str]] = defaultdict(list)
    content, meter = whole(container), container.meter
    if content.startswith(b"[") and len(content) > _MAX_ARRAY_BYTES:
        raise UnreadableError("member_size")
    if content.startswith(b"["):
        for path, text in _strings(_array(content), "", 0):
            texts[path].append(text)
    for line in content.splitlines():
        if not line.startswith((b"data:", b"{")) or len(line) > _MAX_EVENT_BYTES:
            continue
        meter.step(1)
        data = line.removeprefix(b"data:")
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = data.removeprefix(b" ").decode("utf-8", "replace")
        for path, text in _strings(event, "", 0):
            texts[path].append(text)
    for path, pieces in texts.items():
        if len(pieces) > 1:
            joined = "".join(pieces).encode("utf-8", "surrogatepass")
            meter.enter()
            meter.take(len(joined))
            yield Member(path, joined)


def _array(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _strings(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif depth < _MAX_DEPTH and isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, (f"{path}.{key}" if path else key)[:_MAX_PATH], depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, list):
        for inner in value:
            yield from _strings(inner, path, depth + 1)

"""The public timeline of the simulated GitHub: the newest 300 events. As on GitHub, pushes are only on page 1."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

WINDOW = 300
PUSHES = ("PushEvent", "CreateEvent", "DeleteEvent", "PublicEvent")


@dataclass
class Timeline:
    """The newest public events. `visible_at` has the time at which each event became visible, by event id."""

    window: int = WINDOW
    visible_at: dict[str, float] = field(default_factory=dict)
    total: int = 0

    def __post_init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=self.window)
        self._ids = itertools.count(40_000_000_000)
        self._lock = threading.Lock()

    def emit(
        self, event_type: str, repository: str, repository_id: int, payload: dict[str, Any], actor: str = "ana"
    ) -> str:
        """Add an event and return its id."""
        with self._lock:
            event_id = str(next(self._ids))
            self._events.appendleft(
                {
                    "id": event_id,
                    "type": event_type,
                    "actor": {
                        "id": 1,
                        "login": actor,
                        "display_login": actor,
                        "gravatar_id": "",
                        "url": f"https://api.github.com/users/{actor}",
                        "avatar_url": "https://avatars.githubusercontent.com/u/1?",
                    },
                    "repo": {
                        "id": repository_id,
                        "name": repository,
                        "url": f"https://api.github.com/repos/{repository}",
                    },
                    "payload": payload,
                    "public": True,
                    "created_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                }
            )
            self.visible_at[event_id] = time.time()
            self.total += 1
            return event_id

    def page(self, number: int, size: int) -> list[dict[str, Any]]:
        """Return page `number` (1 or higher), with pages of `size` events."""
        with self._lock:
            pushes = list(itertools.islice((one for one in self._events if one["type"] in PUSHES), size))
            others = [one for one in self._events if one["type"] not in PUSHES]
        room = size - len(pushes)
        first = sorted([*pushes, *others[:room]], key=lambda event: -int(event["id"]))
        return first if number == 1 else others[room:][(number - 2) * size : (number - 1) * size]

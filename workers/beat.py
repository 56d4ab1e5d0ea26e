"""The scheduler of Celery beat, driven by monotonic time. Setting the clock neither stops its ticks nor floods them."""

from __future__ import annotations

import time
from typing import Any

from celery.beat import Scheduler


class MonotonicScheduler(Scheduler):  # type: ignore[misc]  # celery has no types
    """A scheduler that sends every entry each `schedule` seconds of monotonic time. It keeps no state in a file."""

    def setup_schedule(self) -> None:
        self.merge_inplace(self.app.conf.beat_schedule)
        self._due_at: dict[str, float] = {}

    def tick(self, *_: Any, **__: Any) -> float:
        """Send the due entries. Return the seconds until the next one is due."""
        now = time.monotonic()
        nearest = float(self.max_interval)
        for name, entry in list(self.schedule.items()):
            period = entry.schedule.run_every.total_seconds()
            due_at = self._due_at.get(name, now)
            if due_at <= now:
                self.apply_entry(entry, producer=self.producer)
                # Missed ticks are not repeated, because each one only wakes a task.
                due_at = max(due_at + period, now + period / 2)
                self._due_at[name] = due_at
            nearest = min(nearest, due_at - now)
        return max(nearest, 0.0)

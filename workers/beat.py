"""The Celery scheduler. It measures time with the monotonic clock, which nobody can set."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.beat import Scheduler, SchedulingError
from kombu.exceptions import OperationalError
from redis import RedisError

from workers.health import heartbeats, pulse
from workers.outage import Outage

RETRY_SECONDS = 1.0
"""After a message could not be sent, the scheduler sends nothing for this long, because each attempt may take seconds.
"""

_log = logging.getLogger(__name__)


class MonotonicScheduler(Scheduler):  # type: ignore[misc]  # celery has no types
    """Sends the task message of each entry in the Celery schedule at the entry's interval."""

    def setup_schedule(self) -> None:
        self.merge_inplace(self.app.conf.beat_schedule)
        self._due_at: dict[str, float] = {}
        self._outage = Outage(_log, "Redis", "nothing is polled until it is back")

    def tick(self, *_: Any, **__: Any) -> float:
        """Send the due messages. Return the number of seconds until the next one is due."""
        now = time.monotonic()
        nearest = float(self.max_interval)
        for name, entry in list(self.schedule.items()):
            period = entry.schedule.run_every.total_seconds()
            due_at = self._due_at.get(name, now)
            if due_at <= now:
                if not self._send(entry):
                    return RETRY_SECONDS
                # After a pause of this process, one message is enough to start the task, so skip the other missed ones.
                due_at = max(due_at + period, now + period / 2)
                self._due_at[name] = due_at
            nearest = min(nearest, due_at - now)
        return max(nearest, 0.0)

    def close(self) -> None:
        """Delete this process's heartbeat row from the database."""
        super().close()
        heartbeats.stop()

    def _send(self, entry: Any) -> bool:
        """Send the message of one schedule entry. Return False if the broker is unavailable."""
        pulse.current().try_to_connect()
        try:
            self.apply_async(entry, producer=self.producer, advance=False)
        except (SchedulingError, OperationalError, RedisError, OSError) as err:
            self._outage.failed(err.__cause__ or err)
            return False
        pulse.current().work()
        self._outage.worked()
        return True

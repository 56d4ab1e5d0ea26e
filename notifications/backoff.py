"""When mails and announcements are retried, and after which time or number of attempts they are given up."""

from __future__ import annotations

import secrets
from datetime import timedelta

MAIL_BACKOFF_SECONDS = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
"""The delays after the first, second and further attempts to send a mail. The last one repeats."""
ANNOUNCEMENT_BACKOFF_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300)
"""The delays after the first, second and further attempts to send an announcement. The last one repeats."""
GIVE_UP_AFTER = timedelta(days=3)
"""After this time, a mail or announcement that was not sent is recorded as failed.

For a mail, the time begins with the first attempt. For an announcement, it begins with its creation.
"""
MAX_MAIL_ATTEMPTS = 200
"""A mail is recorded as failed after this many attempts, for example if it crashes the worker each time."""
MAX_SOON_ATTEMPTS = 100
"""While the mail server is down, a mail has at most this many short delays. Without this limit, an outage of days would
use up all attempts.
"""
MAX_SOON_SECONDS = 45.0
"""The longest delay between attempts while the mail server is down."""


def random_jitter() -> float:
    """Return a random factor between 0.8 and 1.2, so that mails that failed together are not retried together."""
    return 0.8 + 0.4 * secrets.randbelow(1000) / 1000


def mail_backoff(attempts: int, jitter: float = 1.0) -> float:
    """Return the number of seconds to wait before the next attempt to send a mail.

    Args:
        attempts: The number of attempts so far, at least 1.
        jitter: A factor for the result.
    """
    return _delay(MAIL_BACKOFF_SECONDS, attempts) * jitter


def mail_backoff_while_down(attempts: int, delay: float) -> float:
    """Return the delay before a mail's next attempt if the mail server is down, so that mails are sent soon after it
    works again.

    Args:
        attempts: The number of attempts so far.
        delay: The delay that `mail_backoff` chose, in seconds.
    """
    return delay if attempts > MAX_SOON_ATTEMPTS else min(delay, MAX_SOON_SECONDS)


def announcement_backoff(attempts: int) -> int:
    """Return the number of seconds to wait before the next attempt to send an announcement.

    Args:
        attempts: The number of attempts so far, at least 1.
    """
    return _delay(ANNOUNCEMENT_BACKOFF_SECONDS, attempts)


def _delay(delays: tuple[int, ...], attempts: int) -> int:
    return delays[min(max(attempts, 1), len(delays)) - 1]

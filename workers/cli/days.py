"""The reading of options that name a day: 2026-11-01, today, yesterday, or 7d for seven days ago."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from workers.cli.errors import WrongUsage

_DAYS_AGO = re.compile(r"(\d{1,4})d")


def day(text: str, option: str, *, now: datetime | None = None) -> str:
    """Return the day that `text` names, as YYYY-MM-DD in UTC, or an empty text if `text` is empty.

    Args:
        text: A date, `today`, `yesterday`, or a number of days ago such as `7d`.
        option: The name of the option, for the error message.
        now: The current time, for tests.

    Raises:
        WrongUsage: the text does not name a day.
    """
    today = (now or datetime.now(UTC)).date()
    word = text.strip().lower()
    if not word:
        return ""
    if word in ("today", "yesterday"):
        return (today - timedelta(days=word == "yesterday")).isoformat()
    if ago := _DAYS_AGO.fullmatch(word):
        return (today - timedelta(days=int(ago[1]))).isoformat()
    try:
        return date.fromisoformat(word).isoformat()
    except ValueError:
        raise WrongUsage(f"{option} must be a day: 2026-11-01, today, yesterday or 7d") from None

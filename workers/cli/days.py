"""Days that an operator names: 2026-11-01, today, yesterday, or 7d for seven days ago."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from workers.cli.errors import WrongUsage

_DAYS_AGO = re.compile(r"(\d{1,4})d")


def day(text: str, option: str, *, now: datetime | None = None) -> str:
    """Return the day that `text` names as ISO text, in UTC. Return an empty text for an empty one.

    Raises:
        UserError: The text is not a day. The message names `option`.
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

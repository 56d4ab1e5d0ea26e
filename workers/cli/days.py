"""Parses options that contain a day (2026-11-01, today, yesterday, 7d) or a time."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from workers.cli.errors import WrongUsage

_DAYS_AGO = re.compile(r"(\d{1,4})d")
_TIME = re.compile(r"[\d-]{8,10}[Tt ]")


def day(text: str, option: str, *, now: datetime | None = None) -> str:
    """Return the day that `text` describes, as YYYY-MM-DD in UTC, or "" if `text` is empty.

    Args:
        text: A date, `today`, `yesterday`, or a number of days ago such as `7d`.

    Raises:
        WrongUsage: `text` is not a day.
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


def check_order(since: str | datetime | None, until: str | datetime | None) -> None:
    """Check that `since` is not after `until`. An empty value is not checked.

    Raises:
        WrongUsage: `since` is after `until`.
    """
    if since and until and str(since) > str(until):
        raise WrongUsage("--since is after --until: no incident lies in this span")


def point_in_time(text: str, option: str, *, is_end: bool = False, now: datetime | None = None) -> datetime | None:
    """Return the time that `text` describes, or None if `text` is empty.

    Args:
        text: A day, as for `day`, or a time in ISO 8601 format. A time without a time zone is in UTC.
        is_end: If `text` is a day, return the end of this day instead of its beginning.

    Raises:
        WrongUsage: The text is neither a day nor a time.
    """
    try:
        if _TIME.match(text.strip()):
            at = datetime.fromisoformat(text.strip())
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if not (named := day(text, option, now=now)):
            return None
        return datetime.fromisoformat(named).replace(tzinfo=UTC) + timedelta(days=is_end)
    except (ValueError, OverflowError, WrongUsage):
        accepted = "2026-11-01, 2026-11-01T10:00, today, yesterday or 7d"
        raise WrongUsage(f"{option} must be a day or a time: {accepted}") from None

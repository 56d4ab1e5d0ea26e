"""Time limits by kind of work: how long a lease may be renewed before the work under it counts as hung.

A limit is the last resort. Requests, git exchanges and readers have shorter deadlines of their own.
"""

from __future__ import annotations

PAGE_SECONDS = 600.0
"""A page of pushes or files. One push against the slowest git server that is still waited for takes 8 minutes."""
STEP_SECONDS = 1200.0
"""A step of a rescan without progress. Listing the objects of the largest repositories takes minutes."""
MAX_STEP_SECONDS = 8 * 3600.0
"""A step of a rescan with progress. A clone of 20 GiB at 1 MiB/s takes 6 hours."""
DEFAULT_SECONDS = 300.0

JOB_SECONDS = {
    "pushes": PAGE_SECONDS,
    "files": PAGE_SECONDS,
    "slow_pushes": PAGE_SECONDS,
    "slow_files": PAGE_SECONDS,
    **dict.fromkeys(("repository", "gist", "owner", "archive_hour"), STEP_SECONDS),
}
"""By kind of job: seconds from its claim, or from its latest progress."""
POLL_SECONDS = {
    "public_events": 180.0,
    "code_search": 300.0,
    "gists": 600.0,
    "event_archive": 60.0,
    "repository_search": 300.0,
    "new_repositories": 300.0,
}
"""By source. A poll of gists may ask for 30 pages and 20 files."""
GRACE_SECONDS = 10.0
"""From the limit until the process ends: work that notices the loss of its lease stops by itself."""
TIME_LIMIT = "time_limit"
"""The reason under which work that passed its limit is recorded; errors in rows begin with it."""


def job_seconds(kind: str) -> float:
    """Return the limit of a job of this kind, in seconds without progress."""
    return JOB_SECONDS.get(kind, DEFAULT_SECONDS)


def poll_seconds(source: str) -> float:
    """Return the limit of one poll of this source, in seconds."""
    return POLL_SECONDS.get(source, DEFAULT_SECONDS)

"""Time limits by kind of work: how long a worker may keep a row claimed before the work counts as hung."""

from __future__ import annotations

from scanner.records.states import JobKind

PAGE_SECONDS = 600.0
"""The time limit of a job that reads a list of pushes or files."""
STEP_SECONDS = 1200.0
"""The time limit of a rescan step that makes no progress."""
MAX_STEP_SECONDS = 8 * 3600.0
"""The time limit of a rescan step that makes progress. A clone of 20 GiB at 1 MiB/s takes 6 hours."""
DEFAULT_SECONDS = 300.0

JOB_SECONDS = {
    **dict.fromkeys((JobKind.PUSHES, JobKind.FILES, JobKind.SLOW_PUSHES, JobKind.SLOW_FILES), PAGE_SECONDS),
    **dict.fromkeys((JobKind.REPOSITORY, JobKind.GIST, JobKind.OWNER, JobKind.ARCHIVE_HOUR), STEP_SECONDS),
}
"""The time limit of each kind of job, in seconds since the job's claim or latest progress."""
POLL_SECONDS = {
    "public_events": 180.0,
    "code_search": 300.0,
    "gists": 600.0,
    "event_archive": 60.0,
    "repository_search": 300.0,
    "new_repositories": 300.0,
}
"""The time limit of a poll of each source, in seconds."""
GRACE_SECONDS = 10.0
"""The watchdog ends the process this many seconds after the time limit, so that the work can stop by itself."""
TIME_LIMIT = "time_limit"
"""The reason for work that exceeded its time limit. Stored error messages about it begin with this word."""


def job_seconds(kind: JobKind) -> float:
    """Return how many seconds a job of this kind may run without progress."""
    return JOB_SECONDS.get(kind, DEFAULT_SECONDS)


def poll_seconds(source: str) -> float:
    """Return how many seconds one poll of this source may take."""
    return POLL_SECONDS.get(source, DEFAULT_SECONDS)

"""The problems that the status of the service reports. docs/problems.md explains each kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

PAGE = "docs/problems.md"


class Kind(StrEnum):
    """The kinds of problems. The values must not change, because alerts and dashboards use them."""

    # While one of these problems lasts, nothing works.
    DATABASE_AWAY = "database_away"
    DATABASE_VERSION = "database_version"
    DATABASE_READ_ONLY = "database_read_only"
    REDIS_AWAY = "redis_away"
    NOT_RUNNING = "not_running"
    # Problems with processes.
    PROCESS_SILENT = "process_silent"
    QUEUE_WITHOUT_CONSUMER = "queue_without_consumer"
    MIXED_VERSIONS = "mixed_versions"
    CLOCK_OFF = "clock_off"
    # Problems with jobs, polls, the disk, and the files in which events wait while the database is unavailable.
    STALLED = "stalled"
    JOBS_WAIT = "jobs_wait"
    DROPPED = "dropped"
    SPOOL_WAITS = "spool_waits"
    SPOOL_LOST = "spool_lost"
    DISK_FULL = "disk_full"
    # Problems with sources and with GitHub.
    SOURCE_ERROR = "source_error"
    SOURCE_STALE = "source_stale"
    SOURCE_SILENT = "source_silent"
    SOURCE_BEHIND = "source_behind"
    SOURCE_INCOMPLETE = "source_incomplete"
    CREDENTIAL_REJECTED = "credential_rejected"
    REQUESTS_LIMITED = "requests_limited"
    HOST_FAILS = "host_fails"
    # Problems with canaries: test tokens that were not planted, or not found and disabled in time.
    CANARY_LOST = "canary_lost"
    CANARY_LATE = "canary_late"
    CANARY_NOT_PLANTED = "canary_not_planted"
    # Problems with disabling tokens, with decisions that the operator must make, and with sending messages.
    STORE_EMPTY = "store_empty"
    DISABLING_WAITS = "disabling_waits"
    STORE_AWAY = "store_away"
    REPORTS_WAIT = "reports_wait"
    BRAKE_CLOSED = "brake_closed"
    PROTECTED_WAITS = "protected_waits"
    FLAGGED_WAITS = "flagged_waits"
    MESSAGE_WAITS = "message_waits"
    MESSAGE_FAILED = "message_failed"
    OPERATOR_NOT_REACHED = "operator_not_reached"
    OWNER_UNDELIVERABLE = "owner_undeliverable"
    # Problems with settings.
    MAILS_GO_NOWHERE = "mails_go_nowhere"
    SENDER_NOT_SET = "sender_not_set"
    OPERATOR_NOT_SET = "operator_not_set"


DECISIONS = (Kind.BRAKE_CLOSED, Kind.PROTECTED_WAITS, Kind.FLAGGED_WAITS)
"""The problems that end when the operator makes a decision. `Verdict.problems` does not count them."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of the service.

    Attributes:
        sentence: A description for people, without a final full stop.
        todo: What the operator should do.
        since: When the problem began, or None if that is not known.
        subject: The thing that has the problem, such as a queue, a process or a source (something that r8scan polls).
    """

    kind: Kind
    sentence: str
    todo: str
    since: datetime | None = None
    subject: str = ""

    @property
    def key(self) -> str:
        """Return the key of this problem in the database. It stays the same while the problem lasts."""
        return f"{self.kind}:{self.subject}" if self.subject else str(self.kind)

    @property
    def docs(self) -> str:
        """Return the URL of the documentation about this kind of problem."""
        return f"{PAGE}#{self.kind.value.replace('_', '-')}"

    def __str__(self) -> str:
        return f"{self.sentence}: {self.todo}"

    def as_json(self) -> dict[str, str | None]:
        """Return the problem as `r8scan status --json` prints it."""
        return {
            "kind": self.kind.value,
            "subject": self.subject or None,
            "sentence": self.sentence,
            "todo": self.todo,
            "since": self.since.isoformat() if self.since else None,
            "docs": self.docs,
        }


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 token", "2 tokens". By default, the plural ends in "s"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def span(seconds: float | timedelta | None) -> str:
    """Return a duration as text, such as "90 s", "3 minutes" or "3 hours"."""
    if seconds is None:
        return "an unknown time"
    value = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if abs(value) >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.0f} s"

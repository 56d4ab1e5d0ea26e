"""The classes that describe the state of the service. Times have a time zone. Durations are in seconds.

Rows are named tuples: Python creates these classes ten times as fast as dataclasses, at the start of each command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from scanner.records.states import Cause, Decision, JobState, NotificationState
from workers.health.problems import Problem


class ProcessRow(NamedTuple):
    """A process of the service, as its last heartbeat describes it. `queues` are the queues that it consumes."""

    role: str
    host: str
    pid: int
    queues: tuple[str, ...]
    started_at: datetime
    seen_at: datetime
    silent_seconds: float
    version: str
    clock_ahead_seconds: float | None = None


class SourceRow(NamedTuple):
    """The state of a source (something that r8scan polls). Counts are of the last 24 hours, except for `since_start`.

    Attributes:
        recall: For each time limit in seconds: the number of pushes that other sources saw, how many of them this
            source saw in time, and the two bounds of the share's 95 % confidence interval.
        total: The estimated number of all pushes in a day, with the bounds of its 95 % confidence interval, or empty.
    """

    source: str
    is_on: bool
    last_success_at: datetime | None
    next_poll_at: datetime | None
    newest_seen_at: datetime | None
    lag_seconds: float | None
    gaps_24h: int
    missed_by_estimate_24h: int
    missed_reasons_24h: Mapping[str, int]
    since_start: Mapping[str, Any]
    scanned_24h: Mapping[str, int]
    dropped_24h: Mapping[str, int]
    skipped_24h: Mapping[str, int]
    failed_24h: Mapping[str, int]
    unread_24h: Mapping[str, int]
    cursor: Mapping[str, Any]
    error: str | None
    recall: Mapping[str, Sequence[float]] = {}
    total: Sequence[int] = ()


class BudgetRow(NamedTuple):
    """The remaining quota of a GitHub credential for one of GitHub's resources, such as `core` or `search`."""

    credential: str
    resource: str
    limit: int
    remaining: int
    resets_at: datetime | None
    blocked_until: datetime | None
    reason: str


class RateRow(NamedTuple):
    """The request rate of all workers together for one of GitHub's resources, such as `core`.

    Attributes:
        per_second: The allowed rate.
        measured_per_second: The rate in the latest complete minute.
    """

    credential: str
    resource: str
    per_second: float
    measured_per_second: float
    refusals: int
    refused_at: datetime | None


class BandRow(NamedTuple):
    """The pushes of one band: a group of pushes that are about equally likely to contain a token.

    Attributes:
        read_24h: The number of pushes read in the last 24 hours.
        found_24h: The number of known tokens found in these pushes.
        dropped_24h: The number of pushes that were dropped without being read in the last 24 hours.
        waiting: The number of pushes that wait to be read.
    """

    band: str
    read_24h: int
    found_24h: int
    dropped_24h: int
    waiting: int


class CanaryRow(NamedTuple):
    """The canaries (test tokens) that are planted in one way. A successful canary was found and disabled.

    Attributes:
        off: Why no canary is planted in this way. Empty if this way is switched on.
        planted_at: When the newest canary was planted.
        ended_at: When the newest successful canary was disabled.
        seconds: The time from the planting of the newest successful canary until it was disabled.
        source: Where r8scan saw the newest successful canary, such as the event timeline.
        waiting_seconds: How long the oldest canary since the newest successful one has waited. None if no canary waits.
        error: The error of the newest canary, if there was one.
    """

    way: str
    off: str
    planted_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    source: str | None = None
    waiting_seconds: float | None = None
    planted_24h: int = 0
    disabled_24h: int = 0
    failed_24h: int = 0
    error: str | None = None


class CircuitRow(NamedTuple):
    """A host to which no requests are sent for some time, because recent requests failed."""

    host: str
    failures: int
    open_until: datetime | None


class QueueRow(NamedTuple):
    """The unfinished jobs of one kind and state.

    `oldest_visible_at` is when the oldest content to read became public.
    """

    kind: str
    state: JobState
    jobs: int
    oldest_seconds: float | None
    oldest_visible_at: datetime | None


class RescanRow(NamedTuple):
    """One of the latest rescans."""

    job: int
    kind: str
    target: str | None
    state: JobState
    phase: str | None
    error: str | None


class StalledRow(NamedTuple):
    """A job or poll that makes no progress, or that was stopped at its time limit.

    `seconds_left` is the time until the limit. It is negative after the limit.
    """

    what: str
    name: str
    kind: str | None
    is_running: bool
    age_seconds: float | None
    seconds_left: float
    limit_seconds: float


class OutboxRow(NamedTuple):
    """The outgoing messages of one channel and state.

    Attributes:
        oldest_seconds: How long the oldest message has been due.
        created_at: When the oldest message was queued.
        next_attempt_at: When the next attempt to send a message is due. None if no attempt will follow.
    """

    channel: str
    state: NotificationState
    rows: int
    oldest_seconds: float
    created_at: datetime | None = None
    next_attempt_at: datetime | None = None


class IncidentRow(NamedTuple):
    """One of the latest incidents. `hint` is a recognizable part of the token or of its digest."""

    id: str
    hint: str
    account: str | None
    cause: Cause
    action: Decision
    detected_at: datetime
    disabled_at: datetime | None


class Speed(NamedTuple):
    """How fast the tokens of the last 24 hours were disabled after their publication.

    Attributes:
        p50_seconds: The median, or None without incidents.
        p95_seconds: The 95th percentile, or None without incidents.
    """

    incidents_24h: int = 0
    p50_seconds: float | None = None
    p95_seconds: float | None = None


class Decisions(NamedTuple):
    """The operator's open decisions: the number of each kind, and since when the oldest has waited."""

    brake_closed_at: datetime | None = None
    held: int = 0
    protected: int = 0
    protected_since: datetime | None = None
    flagged: int = 0
    flagged_since: datetime | None = None


class Configuration(NamedTuple):
    """The settings that decide what happens to a found token."""

    enforce: str
    mail_transport: str
    token_store: str
    sources: tuple[str, ...]
    database: str = ""
    """The path of the database's file, or the address of its server without a password."""
    is_one_machine: bool = True
    """Whether `r8scan run` runs the whole service with its embedded Redis. Otherwise, services or containers run it."""

    @property
    def how_to_start(self) -> str:
        """Return the advice for an operator whose service does not run, or not completely."""
        return "start r8scan run" if self.is_one_machine else "start its service or container"


@dataclass
class Overview:
    """The state of the service that the status command, the console and the metrics show."""

    at: datetime
    configuration: Configuration
    processes: list[ProcessRow] = field(default_factory=list)
    sources: list[SourceRow] = field(default_factory=list)
    is_github_away: bool = False
    """Whether GitHub's API did not respond to a poll that began after the latest successful poll of any source."""
    budgets: list[BudgetRow] = field(default_factory=list)
    rates: list[RateRow] = field(default_factory=list)
    bands: list[BandRow] = field(default_factory=list)
    canaries: list[CanaryRow] = field(default_factory=list)
    circuits: list[CircuitRow] = field(default_factory=list)
    queues: list[QueueRow] = field(default_factory=list)
    rescans: list[RescanRow] = field(default_factory=list)
    stalled: list[StalledRow] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    sightings: dict[str, int] = field(default_factory=dict)
    spool_entries: int = 0
    spool_refused: int = 0
    disk_free_bytes: int | None = None
    disk_free_share: float | None = None
    broker_messages: dict[str, int] | None = None
    """The number of messages that wait in Redis, by queue. None if it is not known."""
    speed: Speed = field(default_factory=Speed)
    decisions: Decisions = field(default_factory=Decisions)
    incidents: list[IncidentRow] = field(default_factory=list)
    starting_seconds: float | None = None
    """How long ago `r8scan run` was started here, while its processes are not all running yet. Otherwise None."""
    problems: list[Problem] = field(default_factory=list)

"""The model's inputs: inputs.toml as frozen values. That file gives the source and the unit beside each figure."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """A line of inputs.toml cannot be used. The message names it."""


@dataclass(frozen=True)
class Firehose:
    events_per_second: float
    daily_swing: float
    burst_swing: float
    push_share: float
    create_share: float

    @property
    def read_share(self) -> float:
        """Return the share of events whose content r8scan must read with git."""
        return self.push_share + self.create_share


@dataclass(frozen=True)
class PublicEvents:
    window_events: int
    page_events: int
    text_pages: int
    poll_seconds: float
    seconds_between_pages: float
    poll_jitter_seconds: float
    failed_polls: float
    page_kb: float
    visible_earliest_seconds: float
    visible_latest_seconds: float
    prompt_share: float
    prompt_seconds: float

    @property
    def pages(self) -> int:
        return self.window_events // self.page_events


@dataclass(frozen=True)
class RepositorySearch:
    indexed_share: float
    lag_earliest_seconds: float
    lag_latest_seconds: float
    again_share: float
    other_branch_share: float
    settle_seconds: float
    window_seconds: float
    second_look_seconds: float
    third_look_seconds: float
    fourth_look_seconds: float
    points_per_hour: float

    @property
    def looks(self) -> tuple[float, ...]:
        """Return the seconds from a window's end to each search of the window."""
        later = (0.0, self.second_look_seconds, self.third_look_seconds, self.fourth_look_seconds)
        return tuple(self.settle_seconds + seconds for seconds in later)

    @property
    def shown_share(self) -> float:
        """Return the share of pushes whose content is read because of this source."""
        return self.indexed_share * (1 - self.again_share) * (1 - self.other_branch_share)


@dataclass(frozen=True)
class NewRepositories:
    share: float
    listed_share: float
    first_look_seconds: float
    second_look_seconds: float
    pushed_late_share: float
    requests_per_hour: float
    points_per_hour: float


@dataclass(frozen=True)
class EventArchive:
    pushes_per_hour: float
    published_after_seconds: float
    file_mb: float


@dataclass(frozen=True)
class CodeSearch:
    requests_per_minute: float
    results_per_query: int
    results_per_page: int
    queries: int
    matches_per_query: int
    shard_fill: float
    findable_share: float
    index_earliest_seconds: float
    index_latest_seconds: float
    blobs_per_round: float
    page_kb: float


@dataclass(frozen=True)
class Gists:
    window_gists: int
    page_gists: int
    poll_seconds: float
    new_per_minute: float
    gist_kb: float


@dataclass(frozen=True)
class PartnerAlerts:
    seen_share: float
    earliest_seconds: float
    latest_seconds: float


@dataclass(frozen=True)
class Limits:
    points_per_hour: float
    rest_per_hour: float


@dataclass(frozen=True)
class Leaks:
    per_day: float
    push: float
    create: float
    text: float
    gist: float
    other: float
    plain_share: float
    readable_share: float
    removed_share: float
    removed_earliest_seconds: float


@dataclass(frozen=True)
class Work:
    processes: int
    threads: int
    push_seconds: float
    react_seconds: float
    cpu_ms_a_push: float
    cpu_ms_a_mb: float
    one_commit_kb: float
    many_commits_kb: float
    largest_kb: float
    many_commits_share: float
    largest_share: float
    request_kb: float
    pushes_a_job: int
    read_pushes_kept_days: float
    jobs_kept_days: float
    sightings_kept_days: float
    candidates_a_push: float

    @property
    def pack_kb(self) -> float:
        """Return the size of the mean pack of a push."""
        single = 1 - self.many_commits_share - self.largest_share
        return (
            single * self.one_commit_kb
            + self.many_commits_share * self.many_commits_kb
            + self.largest_share * self.largest_kb
        )

    @property
    def cpu_seconds_a_push(self) -> float:
        return (self.cpu_ms_a_push + self.cpu_ms_a_mb * self.pack_kb / 1000) / 1000

    @property
    def pushes_per_second(self) -> float:
        """Return the pushes per second that all processes together can read."""
        return self.processes * self.threads / self.push_seconds


@dataclass(frozen=True)
class Simulation:
    seed: int
    most_installations: int
    stretches: int
    minutes: int
    leaks: int


@dataclass(frozen=True)
class Inputs:
    firehose: Firehose
    public_events: PublicEvents
    repository_search: RepositorySearch
    new_repositories: NewRepositories
    event_archive: EventArchive
    code_search: CodeSearch
    gists: Gists
    partner_alerts: PartnerAlerts
    limits: Limits
    leaks: Leaks
    work: Work
    simulation: Simulation

    @property
    def archive_share(self) -> float:
        """Return the share of all events that are in the archive: its pushes divided by those of the firehose, at most
        1.
        """
        pushes_per_hour = self.firehose.events_per_second * 3600 * self.firehose.push_share
        return min(1.0, self.event_archive.pushes_per_hour / pushes_per_hour)


SECTIONS: dict[str, type[Any]] = {
    "firehose": Firehose,
    "public_events": PublicEvents,
    "repository_search": RepositorySearch,
    "new_repositories": NewRepositories,
    "event_archive": EventArchive,
    "code_search": CodeSearch,
    "gists": Gists,
    "partner_alerts": PartnerAlerts,
    "limits": Limits,
    "leaks": Leaks,
    "work": Work,
    "simulation": Simulation,
}


INSTALLATIONS = (1, 2, 5, 10, 20)
"""Numbers of installations that the tables show."""

# Inputs that are divisors, or ends of a logarithmic scale.
POSITIVE = frozenset(
    [
        *("events_per_second", "window_events", "page_events", "poll_seconds", "requests_per_minute", "shard_fill"),
        *("results_per_query", "results_per_page", "queries", "window_gists", "page_gists", "new_per_minute"),
        *("rest_per_hour", "processes", "threads", "push_seconds", "pushes_a_job", "push_share", "prompt_seconds"),
        *("most_installations", "stretches", "minutes", "leaks", "visible_earliest_seconds", "visible_latest_seconds"),
        *("index_earliest_seconds", "index_latest_seconds", "earliest_seconds", "latest_seconds"),
        *("removed_earliest_seconds", "lag_earliest_seconds", "lag_latest_seconds", "window_seconds"),
        *("points_per_hour", "second_look_seconds"),
    ]
)


def load(path: Path) -> Inputs:
    """Read and check the file. Raises InputError with one line that names what is wrong."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise InputError(f"{path.name}: {err}") from None
    if unknown := sorted(document.keys() - SECTIONS.keys()):
        raise InputError(f"{path.name}: unknown section [{unknown[0]}]")
    inputs = Inputs(**{name: _section(path.name, name, document.get(name)) for name in SECTIONS})
    places = inputs.leaks.push + inputs.leaks.create + inputs.leaks.text + inputs.leaks.gist + inputs.leaks.other
    if abs(places - 1) > 1e-6:
        raise InputError(f"{path.name}: [leaks] push, create, text, gist and other must add up to 1, not {places:g}")
    if inputs.simulation.most_installations < max(INSTALLATIONS):
        raise InputError(f"{path.name}: [simulation] most_installations must be at least {max(INSTALLATIONS)}")
    if inputs.event_archive.pushes_per_hour > inputs.work.pushes_per_second * 3600:
        raise InputError(f"{path.name}: [work] cannot read an hour of the archive within an hour: more processes")
    return inputs


def _section(file: str, name: str, table: Any) -> Any:
    if not isinstance(table, dict):
        raise InputError(f"{file}: section [{name}] is missing")
    section = SECTIONS[name]
    wanted = {field.name: field.type for field in fields(section)}
    if differing := sorted(wanted.keys() ^ table.keys()):
        raise InputError(f"{file}: [{name}] {differing[0]} is {'missing' if differing[0] in wanted else 'unknown'}")
    for key, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int if wanted[key] == "int" else int | float):
            raise InputError(f"{file}: [{name}] {key} must be a {'whole ' if wanted[key] == 'int' else ''}number")
        if not 0 <= value < float("inf"):
            raise InputError(f"{file}: [{name}] {key} must not be negative or infinite")
        if value == 0 and key in POSITIVE:
            raise InputError(f"{file}: [{name}] {key} must be more than 0")
        if key.endswith(("_share", "_swing", "failed_polls")) and value > 1:
            raise InputError(f"{file}: [{name}] {key} is a share: at most 1")
    return section(**table)

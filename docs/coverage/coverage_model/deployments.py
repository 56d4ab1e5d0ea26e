"""The finds, delays and costs of a deployment: several sources on N separate installations."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from coverage_model.inputs import Inputs
from coverage_model.sources import NEVER, SOURCES, Leak, code_search_round_seconds, gists_share, times

DAY = 86400


@dataclass(frozen=True)
class Deployment:
    """A set of sources on a number of separate installations.

    Each installation polls, and one of them reads the archive.
    """

    name: str
    sources: tuple[str, ...]
    installations: int = 1


ALL = SOURCES
POLLED = ALL[:-1]
LISTED = ("public_events", "repository_search", "new_repositories")
DEPLOYMENTS = (
    Deployment("public events", ALL[:1]),
    Deployment("public events, archive", ALL[:2]),
    Deployment("public events, repository search, new repositories", LISTED),
    Deployment("all that is polled", POLLED),
    Deployment("all that is polled, N = 5", POLLED, 5),
    Deployment("partner alerts alone", ALL[-1:]),
    Deployment("all sources", ALL),
    Deployment("all sources, N = 5", ALL, 5),
)


@dataclass(frozen=True)
class Delays:
    """The sorted seconds from leak to disabled for all leaks. Leaks that are never found come last."""

    seconds: tuple[float, ...]

    def share_within(self, seconds: float) -> float:
        return bisect_right(self.seconds, seconds) / len(self.seconds)

    def of_all(self, share: float) -> float:
        """Return the time by which this share of all leaks is disabled, or NEVER."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]

    def of_found(self) -> Delays:
        """Return the delays of the found leaks only."""
        return Delays(tuple(value for value in self.seconds if value < NEVER) or (NEVER,))


def delays(
    inputs: Inputs, leaks: Sequence[Leak], sources: Sequence[str], events_share: float, installations: int = 1
) -> Delays:
    """Return how long the leaks stay usable if these sources are on."""
    by_source = (times(inputs, leak, events_share, installations) for leak in leaks)
    return Delays(tuple(sorted(min(found[source] for source in sources) for found in by_source)))


@dataclass(frozen=True)
class Cost:
    """The cost of a deployment.

    It is the sum over all installations, except for budgets, which are per installation.
    """

    rest_per_hour: float
    rest_budget: float
    search_per_hour: float
    points_per_hour: float
    pushes_per_second: float
    cores: float
    gb_per_day: float
    rows_per_day: float
    rows_kept: float


def cost(
    inputs: Inputs, sources: Sequence[str], single_share: float, pooled_share: float, installations: int = 1
) -> Cost:
    """Return the deployment's cost.

    `single_share` is the share of events that one installation sees, and `pooled_share` the share that all see
    together.
    """
    work, arriving = inputs.work, inputs.firehose.events_per_second * inputs.firehose.read_share
    pushes = rest = search = points = kb_per_hour = 0.0
    if "public_events" in sources:
        asked = inputs.public_events.pages + inputs.public_events.text_pages
        polled = 3600 / inputs.public_events.poll_seconds * asked
        rest += polled
        # Separate installations do not know which pushes the others have read.
        pushes += arriving * single_share * installations
        kb_per_hour += polled * inputs.public_events.page_kb * installations
    known = pooled_share if "public_events" in sources else 0.0
    if "repository_search" in sources:
        points += inputs.repository_search.points_per_hour
        shown = inputs.repository_search.indexed_share * (1 - inputs.repository_search.again_share)
        pushes += arriving * shown * (1 - single_share) * installations
        known = 1 - (1 - known) * (1 - shown)
    if "new_repositories" in sources:
        points += inputs.new_repositories.points_per_hour
        rest += inputs.new_repositories.requests_per_hour
    if "event_archive" in sources:
        pushes += arriving * inputs.archive_share * (1 - known)
        kb_per_hour += inputs.event_archive.file_mb * 1000
    if "code_search" in sources:
        search = 60 * inputs.code_search.requests_per_minute
        rest += inputs.code_search.blobs_per_round * 3600 / code_search_round_seconds(inputs)
        kb_per_hour += search * inputs.code_search.page_kb * installations
    if "gists" in sources:
        polls, seen = 3600 / inputs.gists.poll_seconds, inputs.gists.new_per_minute * 60 * gists_share(inputs)
        # Each poll reads one page, and one more for each full page of new gists.
        rest += polls * (1 + seen / polls // inputs.gists.page_gists)
        kb_per_hour += seen * inputs.gists.gist_kb * installations
    jobs, sightings = 1 / work.pushes_a_job, work.candidates_a_push
    kept_days = work.read_pushes_kept_days + jobs * work.jobs_kept_days + sightings * work.sightings_kept_days
    kb_per_hour += pushes * 3600 * (work.pack_kb + work.request_kb)
    return Cost(
        rest_per_hour=rest * installations,
        rest_budget=rest / inputs.limits.rest_per_hour,
        search_per_hour=search * installations,
        points_per_hour=points * installations,
        pushes_per_second=pushes,
        cores=pushes * work.cpu_seconds_a_push,
        gb_per_day=kb_per_hour * 24 / 1e6,
        rows_per_day=pushes * DAY * (1 + jobs + sightings),
        rows_kept=pushes * DAY * kept_days,
    )

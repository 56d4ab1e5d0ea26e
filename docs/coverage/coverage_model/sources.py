"""The model of each single source: how long a round takes, what share it shows, and when it shows a leak.

Times are seconds since the leak became public. They are `NEVER` if a source does not show the leak.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from coverage_model.inputs import Inputs

NEVER = math.inf
EVENT_PLACES = ("push", "create", "text")
SOURCES = (
    *("public_events", "event_archive", "code_search", "gists"),
    *("repository_search", "new_repositories", "partner_alerts"),
)
WEEK = 7 * 86400.0


@dataclass(frozen=True)
class Leak:
    """The random properties of one leak, as uniform numbers in [0, 1). The inputs decide what the numbers mean.

    Fixed numbers make runs comparable: runs with other inputs have the same leaks.
    """

    place: float
    plain: float
    readable: float
    removed: float
    removed_at: float
    visible: float
    minute: float
    events: float
    archive: float
    polled: float
    queue: float
    findable: float
    indexed: float
    round: float
    gist: float
    gist_polled: float
    alerted: float
    alerted_at: float
    searched: float
    lag: float
    window: float
    listed: float
    pushed_late: float
    looked: float


def draw_leaks(inputs: Inputs) -> list[Leak]:
    """Return the simulation's leaks. They depend only on the seed and the number."""
    rng = random.Random(inputs.simulation.seed + 2)
    width = len(Leak.__dataclass_fields__)
    return [Leak(*(rng.random() for _ in range(width))) for _ in range(inputs.simulation.leaks)]


def code_search_requests(inputs: Inputs, queries: int | None = None, matches: int | None = None) -> int:
    """Return the number of requests of one full round.

    A query shows 1,000 results, so its matches are divided into ranges of `size:`. A range with too many results is
    halved. Each halving costs a request that only shows that there are too many. The last page of a range is half empty
    on average.
    """
    search = inputs.code_search
    matches = search.matches_per_query if matches is None else matches
    if matches <= search.results_per_query:
        each = max(1, math.ceil(matches / search.results_per_page))
    else:
        ranges = math.ceil(matches / (search.results_per_query * search.shard_fill))
        each = ranges - 1 + math.ceil(matches / search.results_per_page + ranges / 2)
    return (search.queries if queries is None else queries) * each


def code_search_round_seconds(inputs: Inputs) -> float:
    """Return how long one credential needs for a full round."""
    return 60 * code_search_requests(inputs) / inputs.code_search.requests_per_minute


def code_search_wait(inputs: Inputs, chance: float, installations: int) -> float:
    """Return the seconds until the first of several installations reaches the leak. Each has its own round.

    The mean is the length of a round / (N + 1).
    """
    return float(code_search_round_seconds(inputs) * (1 - (1 - chance) ** (1 / installations)))


def gists_share(inputs: Inputs) -> float:
    """Return the share of new gists that are still in the list at the next poll."""
    arriving = inputs.gists.new_per_minute / 60 * inputs.gists.poll_seconds
    return 1.0 if arriving <= inputs.gists.window_gists else inputs.gists.window_gists / arriving


def archive_drain_seconds(inputs: Inputs) -> float:
    """Return how long the processes need to read the pushes of one hour's file."""
    return inputs.event_archive.pushes_per_hour / inputs.work.pushes_per_second


def times(inputs: Inputs, leak: Leak, events_share: float, installations: int) -> dict[str, float]:
    """Return the seconds from the leak to "disabled", for each source."""
    place, work = _place(inputs, leak.place), inputs.work
    if leak.readable >= inputs.leaks.readable_share:
        return dict.fromkeys(SOURCES, NEVER)
    plain = leak.plain < inputs.leaks.plain_share
    return {
        "public_events": _events_time(inputs, leak, place, events_share),
        "event_archive": _archive_time(inputs, leak, place),
        "code_search": _search_time(inputs, leak, place, plain, installations),
        "gists": _gist_time(inputs, leak) if place == "gist" else NEVER,
        "repository_search": _repository_search_time(inputs, leak, place),
        "new_repositories": _new_repository_time(inputs, leak, place),
        "partner_alerts": _alert_time(inputs, leak, plain) + work.react_seconds,
    }


def _place(inputs: Inputs, chance: float) -> str:
    shares: Mapping[str, float] = vars(inputs.leaks)
    for name in ("push", "create", "text", "gist"):
        chance -= shares[name]
        if chance < 0:
            return name
    return "other"


def _visible_after(inputs: Inputs, leak: Leak) -> float:
    """Return when the event appears in /events."""
    events = inputs.public_events
    earliest, prompt = events.visible_earliest_seconds, events.prompt_seconds
    if leak.visible < events.prompt_share:
        return earliest + (prompt - earliest) * leak.visible / events.prompt_share
    late = (leak.visible - events.prompt_share) / (1 - events.prompt_share)
    return _spread(prompt, events.visible_latest_seconds, late)


def _events_time(inputs: Inputs, leak: Leak, place: str, share: float) -> float:
    if place not in EVENT_PLACES or leak.events >= share:
        return NEVER
    # A poll shows an event only within the window's length. After that, the event has left the list.
    window = inputs.public_events.window_events / inputs.firehose.events_per_second
    waited = min(window, inputs.public_events.poll_seconds) * leak.polled
    return _visible_after(inputs, leak) + waited + inputs.work.push_seconds + inputs.work.react_seconds


def _repository_search_time(inputs: Inputs, leak: Leak, place: str) -> float:
    """Return when repository search shows the push.

    A window is searched once it has settled, and again later for pushes that were indexed since.
    """
    search, work = inputs.repository_search, inputs.work
    if place not in ("push", "create") or leak.searched >= search.shown_share:
        return NEVER
    lag = _spread(search.lag_earliest_seconds, search.lag_latest_seconds, leak.lag)
    until_the_window_ends = search.window_seconds * leak.window
    for look in search.looks:
        if lag <= until_the_window_ends + look:
            return until_the_window_ends + look + work.push_seconds + work.react_seconds
    return NEVER


def _new_repository_time(inputs: Inputs, leak: Leak, place: str) -> float:
    """Return when the source of new repositories shows the push.

    r8scan looks at a new repository twice. The second look finds a first push that came after the first look.
    """
    new, work = inputs.new_repositories, inputs.work
    if place != "create" or leak.listed >= new.share * new.listed_share:
        return NEVER
    if leak.pushed_late < new.pushed_late_share:
        waited = (new.second_look_seconds - new.first_look_seconds) * leak.looked
    else:
        waited = new.first_look_seconds * leak.looked
    return waited + work.push_seconds + work.react_seconds


def _archive_time(inputs: Inputs, leak: Leak, place: str) -> float:
    if place not in EVENT_PLACES or leak.archive >= inputs.archive_share:
        return NEVER
    visible = _visible_after(inputs, leak)
    until_the_hour_ends = 3600 - (leak.minute * 3600 + visible) % 3600
    published = visible + until_the_hour_ends + inputs.event_archive.published_after_seconds
    return published + leak.queue * archive_drain_seconds(inputs) + inputs.work.react_seconds


def _search_time(inputs: Inputs, leak: Leak, place: str, plain: bool, installations: int) -> float:
    search = inputs.code_search
    if place not in ("push", "create") or not plain or leak.findable >= search.findable_share:
        return NEVER
    indexed = _spread(search.index_earliest_seconds, search.index_latest_seconds, leak.indexed)
    shown = indexed + code_search_wait(inputs, leak.round, installations)
    if leak.removed < inputs.leaks.removed_share:
        removed = _spread(inputs.leaks.removed_earliest_seconds, WEEK, leak.removed_at)
        # The index never had a token that was removed earlier, or loses it at the next indexing.
        if removed < shown:
            return NEVER
    return shown + inputs.work.react_seconds


def _gist_time(inputs: Inputs, leak: Leak) -> float:
    if leak.gist >= gists_share(inputs):
        return NEVER
    return leak.gist_polled * inputs.gists.poll_seconds + inputs.work.push_seconds + inputs.work.react_seconds


def _alert_time(inputs: Inputs, leak: Leak, plain: bool) -> float:
    alerts = inputs.partner_alerts
    if not plain or leak.alerted >= alerts.seen_share:
        return NEVER
    return _spread(alerts.earliest_seconds, alerts.latest_seconds, leak.alerted_at)


def _spread(earliest: float, latest: float, chance: float) -> float:
    """Spread a uniform number evenly on a logarithmic scale: 1 to 10 minutes is as likely as 10 to 100."""
    return float(earliest * (latest / earliest) ** chance)

"""The console's page of sources (the things that r8scan polls), canaries (test tokens) and quotas."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import Route

from workers.health.problems import Kind, counted
from workers.health.rows import Overview, SourceRow
from workers.web.console.queries import lists
from workers.web.console.rendering import span
from workers.web.console.serving import Console, View

CANARY_KINDS = (Kind.CANARY_LOST, Kind.CANARY_LATE, Kind.CANARY_NOT_PLANTED)
SHOWN_HORIZON = 3600
"""Where there is space for only one `Recall`, the page prefers the one with this time limit in seconds."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Of the pushes that other sources saw, the share that this source also saw within a time limit.

    Attributes:
        within: The time limit as text, such as "5 min".
        marks: The number of pushes that other sources saw.
        seen: The number of these pushes that this source saw within the time limit.
        low: The lower bound of the share's 95 % confidence interval, in percent.
        high: The upper bound of this interval, in percent.
    """

    within: str
    marks: int
    seen: int
    low: float
    high: float

    @property
    def interval(self) -> str:
        """Return the confidence interval as text, such as "92 to 97 %"."""
        low, high = f"{self.low:.0f}", f"{self.high:.0f}"
        return f"{low} %" if low == high else f"{low} to {high} %"


def routes(console: Console) -> list[Route]:
    """Return the route of the page of sources."""
    return [Route("/console/sources", console.page(show), methods=["GET"])]


def show(view: View) -> Response:
    found = view.console.overview.get()
    with view.reading() as session:
        return view.page(
            "sources.html",
            found=found,
            canary_problems=canary_problems(found),
            missed=missed(found),
            gaps=lists.newest_gaps(session),
            recalls=recalls,
        )


def missed(found: Overview) -> str:
    """Return a sentence about the events, contents and jobs missed in the last 24 hours."""
    gaps = sum(row.gaps_24h for row in found.sources)
    events = sum(sum(row.missed_reasons_24h.values()) for row in found.sources)
    unread = sum(sum(row.unread_24h.values()) for row in found.sources)
    dropped = sum(sum(row.dropped_24h.values()) for row in found.sources)
    parts = [
        text
        for number, text in (
            (gaps, f"{counted(gaps, 'gap', 'gaps')} with about {counted(events, 'event', 'events')}"),
            (unread, f"{counted(unread, 'content', 'contents')} not read"),
            (dropped, f"{counted(dropped, 'piece', 'pieces')} of work dropped"),
        )
        if number
    ]
    return f"Missed: {', '.join(parts)}." if parts else "Nothing is known to be missed."


def recalls(row: SourceRow) -> list[Recall]:
    """Return for each time limit, the shortest first, this source's share of the pushes that other sources saw."""
    return [
        Recall(span(seconds), int(marks), int(seen), 100 * low, 100 * high)
        for seconds, (marks, seen, low, high) in sorted((int(key), share) for key, share in row.recall.items())
    ]


def shown_recall(row: SourceRow) -> Recall | None:
    """Return the `Recall` to show if there is space for only one, or None if nothing was measured."""
    measured = [key for key in row.recall if int(key) <= SHOWN_HORIZON]
    return recalls(row)[len(measured) - 1] if measured else None


def canary_problems(found: Overview) -> dict[str, str]:
    """Return a sentence about the problem with canaries (test tokens) for each way of planting."""
    return {one.subject: one.sentence for one in found.problems if one.kind in CANARY_KINDS}

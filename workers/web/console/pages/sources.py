"""The page of sources: the position of each in its list, what it found and missed, its measured recall, canaries, and
what is left of GitHub's quotas.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import Route

from workers.health.problems import Kind
from workers.health.rows import Overview, SourceRow
from workers.web.console.queries import lists
from workers.web.console.rendering import span
from workers.web.console.serving import Console, View

CANARY_KINDS = (Kind.CANARY_LOST, Kind.CANARY_LATE, Kind.CANARY_NOT_PLANTED)
SHOWN_HORIZON = 3600
"""Pages with one number for a source's recall show the share that it saw within this many seconds after the push, or
within the longest shorter time that was measured.
"""


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the pushes that other sources saw (`marks`) a source saw within a time (`seen`).

    `low` and `high` are the bounds of the 95 % interval of this share, in percent.
    """

    within: str
    marks: int
    seen: int
    low: float
    high: float

    @property
    def interval(self) -> str:
        """Return the interval of the share as text, such as "92 to 97 %"."""
        low, high = f"{self.low:.0f}", f"{self.high:.0f}"
        return f"{low} %" if low == high else f"{low} to {high} %"


def routes(console: Console) -> list[Route]:
    """Return the route of the page of sources."""
    return [Route("/console/sources", console.page(show), methods=["GET"])]


def show(view: View) -> Response:
    """Render the page of sources."""
    found = view.console.overview.get()
    with view.reading() as session:
        return view.page(
            "sources.html",
            found=found,
            canary_problems=canary_problems(found),
            gaps=lists.newest_gaps(session),
            recalls=recalls,
        )


def recalls(row: SourceRow) -> list[Recall]:
    """Return the recall of a source for each time after a push, the shortest time first.

    Return an empty list if it was not measured.
    """
    return [
        Recall(span(seconds), int(marks), int(seen), 100 * low, 100 * high)
        for seconds, (marks, seen, low, high) in sorted((int(key), share) for key, share in row.recall.items())
    ]


def shown_recall(row: SourceRow) -> Recall | None:
    """Return the recall of a source for pages that show only one number, or None if it was not measured."""
    measured = [key for key in row.recall if int(key) <= SHOWN_HORIZON]
    return recalls(row)[len(measured) - 1] if measured else None


def canary_problems(found: Overview) -> dict[str, str]:
    """Return, by way of planting canaries, the sentence of its problem. Ways without a problem are left out."""
    return {one.subject: one.sentence for one in found.problems if one.kind in CANARY_KINDS}

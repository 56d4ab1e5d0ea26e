"""The page of sources: position, finds, gaps, and the rest of GitHub's quotas."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from workers.health.problems import Kind
from workers.web.console.queries import lists
from workers.web.console.serving import Console, View

CANARY_KINDS = (Kind.CANARY_LOST, Kind.CANARY_LATE, Kind.CANARY_NOT_PLANTED)


def routes(console: Console) -> list[Route]:
    """Return the page's route."""
    return [Route("/console/sources", console.page(show), methods=["GET"])]


def show(view: View) -> Response:
    """Render the page."""
    found = view.console.overview.get()
    problems = {one.subject: one.sentence for one in found.problems if one.kind in CANARY_KINDS}
    with view.reading() as session:
        return view.page("sources.html", found=found, canary_problems=problems, gaps=lists.newest_gaps(session))

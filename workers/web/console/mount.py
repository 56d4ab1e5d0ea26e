"""Collects the routes of all pages of the console."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from workers.context import Context
from workers.web.bodies import BodyBudget
from workers.web.console import rendering
from workers.web.console.pages import audit, decisions, incident, incidents, jobs, mails, now, sources, tokens
from workers.web.console.serving import Console, NotThere, View
from workers.web.console.sign_in import SignIn
from workers.web.requests import RequestRefused

PAGES = (now, incidents, incident, decisions, tokens, jobs, mails, sources, audit)
KEPT_BY_BROWSERS = "public, max-age=31536000, immutable"
"""The Cache-Control header of static files. Their URLs change with their content."""


def routes(context: Context, budget: BodyBudget) -> list[Route]:
    """Return all routes of the console, or an empty list if R8SCAN_CONSOLE is false."""
    if not context.settings.console:
        return []
    console = Console(context, budget)
    return [
        Route("/", _to_console),
        Route("/console", _to_console),
        Route("/console/static/{version}/{name}", console.protected(_static)),
        *SignIn(console).routes(),
        *(route for module in PAGES for route in module.routes(console)),
        Route("/console/{rest:path}", console.page(_nothing)),
    ]


async def _to_console(request: Request) -> Response:
    del request
    return RedirectResponse("/console/", 307)


async def _static(request: Request) -> Response:
    found = rendering.static_files().get(request.path_params["name"])
    if found is None:
        raise RequestRefused(404, "there is no such file")
    content, media_type = found
    return Response(content, media_type=media_type, headers={"Cache-Control": KEPT_BY_BROWSERS})


def _nothing(view: View) -> Response:
    del view
    raise NotThere

"""The web application: its routes, and a limit on the number of request headers."""

from __future__ import annotations

from sqlalchemy.orm import configure_mappers
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from workers.context import Context
from workers.web import alerts, gateways, health, metrics, reports
from workers.web.bodies import BodyBudget
from workers.web.console import mount
from workers.web.requests import error_answer

MAX_HEADERS = 64
"""The maximum number of headers of a request. A proxy adds about ten."""


def application(context: Context) -> ASGIApp:
    """Return the ASGI application with all routes of the service."""
    configure_mappers()  # takes 0.1 s, for which the first request would otherwise wait
    budget = BodyBudget()
    routes = [
        *health.routes(context),
        *alerts.routes(context, budget),
        *reports.routes(context, budget),
        *gateways.routes(context),
        *metrics.routes(context),
        *mount.routes(context, budget),
    ]
    return _with_few_headers(Starlette(routes=routes, exception_handlers={404: _plain, 405: _plain, 500: _plain}))


def _with_few_headers(application: ASGIApp) -> ASGIApp:
    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and len(scope["headers"]) > MAX_HEADERS:
            await error_answer(431, f"the request has more than {MAX_HEADERS} headers")(scope, receive, send)
            return
        await application(scope, receive, send)

    return bounded


async def _plain(request: Request, err: Exception) -> Response:
    """Return an error as a JSON response of one line, without internal details."""
    del request
    status = int(getattr(err, "status_code", 500))
    words = {404: "there is nothing here", 405: "this method is not for this address"}
    headers = getattr(err, "headers", None)
    return JSONResponse({"error": words.get(status, "internal error; the log has the details")}, status, headers)

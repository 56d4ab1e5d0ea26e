"""The one web application: what is offered, and nothing about how."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scanner.records import schema
from workers.context import Context
from workers.web import alerts, gateways, reports
from workers.web.requests import Refused, guarded


def application(context: Context) -> Starlette:
    """Everything that the service answers over HTTP. `/health` is 200 while the database is there and up to date."""

    @guarded
    async def health(request: Request) -> Response:
        del request
        if schema.current_revision(context.database) != schema.newest_revision():
            raise Refused(503, "the database is of another version: run r8scan db upgrade")
        return JSONResponse({"status": "ok"})

    rooms = (alerts, reports, gateways)
    routes = [Route("/health", health), *(route for room in rooms for route in room.routes(context))]
    return Starlette(routes=routes, exception_handlers={404: _plain, 405: _plain, 500: _plain})


async def _plain(request: Request, err: Exception) -> Response:
    """An error as one line; what went wrong inside is for the log."""
    del request
    status = int(getattr(err, "status_code", 500))
    words = {404: "there is nothing here", 405: "this method is not for this address"}
    headers = getattr(err, "headers", None)
    return JSONResponse({"error": words.get(status, "an error of ours; it is in the log")}, status, headers)

"""`GET /disabled?after=N`, which tells an API gateway which tokens were disabled since its last request."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scanner.records import announcements
from scanner.records.announcements import CursorExpired
from workers.context import Context
from workers.web.pools import Pool
from workers.web.requests import RequestRefused, guarded, require_key

MAX_CURSOR_LENGTH = 18


def routes(context: Context) -> list[Route]:
    """Return the route `/disabled`, or an empty list if R8SCAN_GATEWAY_KEY is not set."""
    key = context.settings.gateway_key
    if key is None:
        return []
    pool = Pool(threads=2, queue=16)

    @guarded
    async def list_disabled(request: Request) -> Response:
        require_key(request, key)
        return await pool.run(_listed, context, request.query_params.get("after"))

    return [Route("/disabled", list_disabled, methods=["GET"])]


def _listed(context: Context, after: str | None) -> Response:
    """Return the tokens disabled after the cursor `after`, and the next cursor."""
    # If announcements after this cursor were deleted, status 410 tells the gateway to empty its cache.
    if after is not None and not (after.isascii() and after.isdigit() and len(after) <= MAX_CURSOR_LENGTH):
        raise RequestRefused(400, "after must be a number that an earlier answer gave as next")
    with context.database.read() as session:
        try:
            found = announcements.list_after(session, None if after is None else int(after))
        except CursorExpired as err:
            words = "the announcements after this number were deleted: discard your whole cache, and continue from next"
            return JSONResponse({"error": words, "next": err.start}, 410)
    return JSONResponse({"announcements": found.announcements, "next": found.next_cursor, "more": found.has_more})

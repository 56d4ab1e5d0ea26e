"""`GET /metrics` for Prometheus. Requests must send R8SCAN_METRICS_KEY as a bearer token."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.context import Context
from workers.web.pools import Pool
from workers.web.requests import guarded, require_key

KEPT_SECONDS = 5.0
"""How long the metrics are cached."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def routes(context: Context) -> list[Route]:
    """Return the route `/metrics`, or an empty list if R8SCAN_METRICS_KEY is not set."""
    key = context.settings.metrics_key
    if key is None:
        return []
    from workers.health.metrics import exposition  # only this needs the Prometheus library

    pool = Pool(threads=1, queue=4)
    kept: list[tuple[float, bytes]] = []

    def read() -> bytes:
        # `kept` needs no lock, because the pool has only one thread.
        if not kept or time.monotonic() - kept[0][0] > KEPT_SECONDS:
            kept[:] = [(time.monotonic(), exposition(context.database, context.settings))]
        return kept[0][1]

    @guarded
    async def metrics(request: Request) -> Response:
        require_key(request, key)
        return Response(await pool.run(read), headers={"Content-Type": CONTENT_TYPE})

    return [Route("/metrics", metrics, methods=["GET"])]

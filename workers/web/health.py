"""`GET /health`, which says whether this process can use the database."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scanner.records import versions
from scanner.records.compromise_models import Report
from scanner.records.database import is_unavailable
from scanner.records.models import db_now
from scanner.records.states import ReportState
from workers import outage
from workers.context import Context
from workers.web.pools import Pool
from workers.web.requests import RequestRefused, error_answer, guarded

KEPT_SECONDS = 2.0
"""How long the result of a check is reused."""
WAIT_SECONDS = 5.0
"""How long a request waits for a check before it gets status 503."""
LATE_SECONDS = 600
"""If a reported token waits for longer than this, the answer is "late" instead of "ok"."""


@dataclass(frozen=True, slots=True)
class _CheckResult:
    at: float
    status: int
    words: str


class HealthCheck:
    """A check of the database. It runs at most once in KEPT_SECONDS."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pool = Pool(1, 0)
        self._last: _CheckResult | None = None
        self._task: asyncio.Task[_CheckResult] | None = None
        self._newest = ""

    async def answer(self) -> Response:
        """Return a response: status 200 if the database can be used, or 503 with the reason.

        Raises:
            RequestRefused: The check takes longer than WAIT_SECONDS. The status is 503.
        """
        found = self._last
        if found is None or time.monotonic() - found.at > KEPT_SECONDS:
            found = await self._check()
        if found.status != 200:
            return error_answer(found.status, found.words, 10)
        return JSONResponse({"status": found.words})

    async def _check(self) -> _CheckResult:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._pool.run(self._find_out))
        done, _ = await asyncio.wait({self._task}, timeout=WAIT_SECONDS)
        if not done:
            raise RequestRefused(503, "the database does not answer", retry_after=10)
        self._last = self._task.result()
        return self._last

    def _find_out(self) -> _CheckResult:
        newest = self._newest = self._newest or versions.wanted()
        try:
            with self._context.database.read() as session:
                present = versions.present(session)
            if present is None or present < newest:
                words, status = "the database is older than this program: run r8scan db upgrade", 503
            else:
                # Accept newer tables: during an upgrade, the old processes must stay in service.
                words, status = ("late" if self._is_late() else "ok"), 200
        except Exception as err:
            if not is_unavailable(err):
                raise
            outage.database.failed(err)
            words, status = "try again later", 503
        return _CheckResult(time.monotonic(), status, words)

    def _is_late(self) -> bool:
        """Return whether a reported token has waited longer than LATE_SECONDS."""
        late = select(func.count()).where(
            Report.state == ReportState.RECEIVED, Report.received_at < db_now(-LATE_SECONDS)
        )
        with self._context.database.read() as session:
            return session.execute(late).scalar_one() > 0


def routes(context: Context) -> list[Route]:
    """Return the route `/health`. Requests need no key."""
    health = HealthCheck(context)

    @guarded
    async def look(request: Request) -> Response:
        del request
        return await health.answer()

    return [Route("/health", look)]

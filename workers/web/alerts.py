"""`POST /github/secret-scanning`, which receives signed alerts of GitHub's secret scanning partner program."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scanner.compromise.networks import rate_keys
from scanner.github.signatures import WAIT_SECONDS, Forged, KeysUnavailable, PublicKeys
from scanner.sources.alerts import NotAlerts, TooManyAlerts, answer_alerts, parse_alerts
from workers.context import Context
from workers.wake import wake, wake_outbox
from workers.web import refusals
from workers.web.bodies import BodyBudget
from workers.web.front import Intake
from workers.web.pools import Pool
from workers.web.rates import Rate, RateLimiter
from workers.web.requests import RequestRefused, client_of, guarded, network_of

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_SUSPECT_BYTES = 256 * 1024
"""The maximum size of a body from a network that has sent wrong signatures."""
RETRY_SECONDS = 60
MAX_WAITING_FOR_KEYS = 64
"""The maximum number of requests that wait for the public keys with which GitHub signs alerts."""
_POLL_SECONDS = 0.05

KEY_HEADER, SIGNATURE_HEADER = "Github-Public-Key-Identifier", "Github-Public-Key-Signature"


def routes(context: Context, budget: BodyBudget | None = None) -> list[Route]:
    """Return the route for GitHub's alerts. It needs no secret in the settings."""
    return [Route("/github/secret-scanning", _Alerts(context, budget or BodyBudget()).take, methods=["POST"])]


class _Alerts:
    def __init__(self, context: Context, budget: BodyBudget) -> None:
        self._context = context
        self._keys = PublicKeys(context.github)
        self._intake = Intake(budget, Pool(threads=4, queue=32))
        # Signatures are verified in separate threads, so that wrong ones cannot block the threads that use the
        # database.
        self._verifying = Pool(threads=2, queue=64)
        self._forgers = RateLimiter(Rate(60, 60), Rate(6000, 6000))
        self._waiting = 0
        self.take = guarded(self._take)

    async def _take(self, request: Request) -> Response:
        key_id, signature = request.headers.get(KEY_HEADER, ""), request.headers.get(SIGNATURE_HEADER, "")
        networks = rate_keys(client_of(request))
        try:
            if (asked := self._keys.prepare(key_id, signature)) is not None:
                await self._wait_for(asked)
            self._keys.check_key(key_id)
            longest = MAX_SUSPECT_BYTES if self._forgers.is_exhausted(networks) else MAX_BODY_BYTES
            async with self._intake.body(request, longest) as body:
                await self._verify(key_id, signature, body, networks)
                return await self._intake.run(_answer, self._context, body)
        except Forged as err:
            refusals.of_this_process.add("alert_refused", network_of(request), str(err))
            raise RequestRefused(403, str(err)) from None
        except RequestRefused as err:
            if err.status in (400, 413):
                refusals.of_this_process.add("alert_refused", network_of(request), err.reason)
            raise
        except KeysUnavailable as err:
            raise RequestRefused(503, str(err), retry_after=RETRY_SECONDS) from None

    async def _verify(self, key_id: str, signature: str, body: bytes, networks: Sequence[str]) -> None:
        try:
            await self._verifying.run(self._keys.check_prepared, key_id, signature, body)
        except Forged:
            # Anybody can send wrong signatures. A network that sends many of them may send only small bodies.
            self._forgers.admit(networks)
            raise

    async def _wait_for(self, asked: threading.Event) -> None:
        """Wait until `asked` is set. Raise KeysUnavailable after WAIT_SECONDS, or if too many requests wait."""
        if asked.is_set():
            return
        if self._waiting >= MAX_WAITING_FOR_KEYS:
            raise KeysUnavailable("too many requests wait for GitHub's keys: try again later")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not asked.is_set():
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise KeysUnavailable("GitHub's keys are unavailable") from None
        finally:
            self._waiting -= 1


def _answer(context: Context, body: bytes) -> Response:
    try:
        found = parse_alerts(body, context.settings.digester(), context.settings.github_web_url)
    except NotAlerts as err:
        raise RequestRefused(400, str(err)) from None
    except TooManyAlerts as err:
        raise RequestRefused(413, str(err)) from None
    verdict = answer_alerts(context.database, found, policy=context.policy, state_dir=context.settings.state_dir)
    if verdict.unfinished:
        wake("r8scan.look_up")
    if verdict.response.has_notifications:
        wake_outbox()
    return JSONResponse(verdict.feedback)

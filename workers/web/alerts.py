"""`POST /github/secret-scanning`: alerts of GitHub's secret scanning partner program, signed by GitHub."""

from __future__ import annotations

import logging

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scanner.github.signatures import Forged, KeysUnavailable, PublicKeys
from scanner.sources.alerts import NotAlerts, TooManyAlerts, answer_alerts, parse_alerts
from workers.context import Context
from workers.doorbell import ring, ring_outbox
from workers.web.requests import Refused, body_of, guarded

LARGEST_BODY = 10 * 1024 * 1024
RETRY_SECONDS = 60
_log = logging.getLogger(__name__)

KEY_HEADER, SIGNATURE_HEADER = "Github-Public-Key-Identifier", "Github-Public-Key-Signature"


def routes(context: Context) -> list[Route]:
    """The one route; it needs no setting, since the signature says who sends."""
    keys = PublicKeys(context.github)

    @guarded
    async def take_alerts(request: Request) -> Response:
        body = await body_of(request, LARGEST_BODY)
        key_id, signature = request.headers.get(KEY_HEADER, ""), request.headers.get(SIGNATURE_HEADER, "")
        return await run_in_threadpool(_take, context, keys, key_id, signature, body)

    return [Route("/github/secret-scanning", take_alerts, methods=["POST"])]


def _take(context: Context, keys: PublicKeys, key_id: str, signature: str, body: bytes) -> Response:
    try:
        keys.check(key_id, signature, body)
    except Forged as err:
        raise Refused(403, str(err)) from None
    except KeysUnavailable as err:
        raise Refused(503, str(err), retry_after=RETRY_SECONDS) from None
    try:
        found = parse_alerts(body, context.settings.digester(), context.settings.github_web_url)
    except NotAlerts as err:
        raise Refused(400, str(err)) from None
    except TooManyAlerts as err:
        _log.error("alerts were refused: %s", err)
        raise Refused(413, str(err)) from None
    verdict = answer_alerts(context.database, found, policy=context.policy, state_dir=context.settings.state_dir)
    if verdict.unfinished:
        ring("r8scan.look_up")
    if verdict.response.has_news:
        ring_outbox()
    return JSONResponse(verdict.feedback)

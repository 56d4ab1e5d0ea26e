"""HTTP endpoints for reports of compromised tokens. Responses never repeat the input.

`POST /reports` and `POST /usage` are for the vendor's internal systems. `POST /leaked-token` is for everybody.
"""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from pydantic import SecretStr
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scanner.compromise import networks, possession, reports, settling, usage
from scanner.compromise.lines import numbered_lines
from scanner.compromise.networks import BadNetworks, rate_keys
from scanner.compromise.possession import FoundToken, TooManyRequests
from scanner.compromise.reports import BadReport, NewReport
from scanner.compromise.usage_records import MAX_LINE_LENGTH, BadRecord, RecordReader, UsageRecord
from scanner.compromise.usage_rules import rules_of
from scanner.detection.redaction import SharedRedaction
from scanner.records.database import is_unavailable
from workers import outage
from workers.context import Context
from workers.wake import wake_outbox
from workers.web.bodies import BodyBudget
from workers.web.front import RATE_RETRY_SECONDS, Intake
from workers.web.pools import Pool
from workers.web.rates import Rate, RateLimiter
from workers.web.requests import RequestRefused, client_of, guarded, require_key

REPORTS_BYTES = 1024 * 1024
MAX_REPORTS = 1000
USAGE_BYTES = 8 * 1024 * 1024
MAX_USAGE_LINES = 250_000
"""The maximum number of lines in a body. Empty lines also count, because they take time, too."""
POSSESSION_BYTES = 256 * 1024
"""The maximum size of a body sent to `/leaked-token`: about a thousand tokens with addresses."""
MAX_BAD_LINES = 10_000
"""A body with more bad lines than this is refused, because a bad line takes as much time as a good one."""
BAD_NAMED = 100
FOUND_REQUESTS = (Rate(10, 10), Rate(60, 60))
"""Rate limits in each process for requests to `/leaked-token` from one network, and from all."""
FOUND_TOKENS = (Rate(1000, 200), Rate(5000, 500))
"""Rate limits for the tokens in requests to `/leaked-token` from one network, and from all."""

THANKS = "Thank you. If this is a working token of ours, it is disabled now."

_log = logging.getLogger(__name__)


def routes(context: Context, budget: BodyBudget | None = None) -> list[Route]:
    """Return the routes for reports. Routes for internal systems exist only if R8SCAN_REPORT_KEY is set."""
    budget = budget or BodyBudget()
    key = context.settings.report_key
    internal = [] if key is None else _internal_routes(context, key, budget)
    return [*internal, Route("/leaked-token", _FoundTokens(context, budget).take, methods=["POST"])]


def _internal_routes(context: Context, key: SecretStr, budget: BodyBudget) -> list[Route]:
    of_reports, of_usage = (Intake(budget, Pool(threads=2, queue=8)) for _ in range(2))
    settling_pool = Pool(threads=1, queue=8)

    @guarded
    async def take_reports(request: Request) -> Response:
        require_key(request, key)
        async with of_reports.body(request, REPORTS_BYTES) as body:
            return await of_reports.run(_reports, context, body)

    @guarded
    async def take_usage(request: Request) -> Response:
        require_key(request, key)
        batch = _batch_key(request.headers.get("idempotency-key", ""))
        async with of_usage.body(request, USAGE_BYTES) as body:
            stored = await of_usage.run(_usage, context, body, batch)
        later = BackgroundTask(_settle_later, settling_pool, context, stored.report_ids)
        return JSONResponse(stored.answer, background=later)

    return [Route("/reports", take_reports, methods=["POST"]), Route("/usage", take_usage, methods=["POST"])]


class _FoundTokens:
    """The endpoint `POST /leaked-token`, which receives at most `possession.MAX_TOKENS` tokens."""

    def __init__(self, context: Context, budget: BodyBudget) -> None:
        self._context = context
        self._intake = Intake(budget, Pool(threads=2, queue=16), RateLimiter(*FOUND_REQUESTS))
        self._tokens = RateLimiter(*FOUND_TOKENS)
        self._settling = Pool(threads=2, queue=64)
        self.take = guarded(self._take)

    async def _take(self, request: Request) -> Response:
        self._intake.require_rate(request)
        client = client_of(request)
        async with self._intake.body(request, POSSESSION_BYTES) as body:
            found = _found_tokens(body, request.headers.get("content-type", ""))
            if not self._tokens.admit(rate_keys(client), len(found)):
                raise RequestRefused(429, "too many tokens: try again in a minute", retry_after=RATE_RETRY_SECONDS)
            ids = await self._intake.run(_leaked_tokens, self._context, found, client)
        later = BackgroundTask(_settle_later, self._settling, self._context, ids)
        return JSONResponse({"received": True, "message": THANKS}, 202, background=later)


def _reports(context: Context, body: bytes) -> Response:
    given = _json_object(body).get("reports")
    if not isinstance(given, list) or not 0 < len(given) <= MAX_REPORTS:
        raise RequestRefused(400, f'send {{"reports": [...]}} with 1 to {MAX_REPORTS} reports')
    good: list[NewReport] = []
    bad: list[dict[str, Any]] = []
    redaction = SharedRedaction()
    for index, one in enumerate(given):
        try:
            good.append(_report(context, one, redaction))
        except BadReport as err:
            bad.append({"index": index, "reason": f"it {err}"})
    ids = reports.record(context.database, good)
    _settle(context, ids)
    answer = {
        "recorded": len(ids),
        "repeated": len(good) - len(ids),
        "decisions": dict(settling.decisions(context.database, ids)),
        "bad": bad,
    }
    return JSONResponse(answer, 200 if good else 400)


def _report(context: Context, one: Any, redaction: SharedRedaction) -> NewReport:
    if not isinstance(one, dict):
        raise BadReport("is not an object")
    named = [one[name] for name in ("digest", "token") if one.get(name) is not None]
    if len(named) != 1 or not isinstance(named[0], str):
        raise BadReport("names no token: give digest or token")
    subject = reports.subject_of(named[0], context.settings.digester())
    return reports.new_report(
        subject,
        sign=one.get("sign"),
        note=one.get("note"),
        reporter="api",
        key=one.get("key"),
        redacted=redaction.redact,
    )


def _batch_key(given: str) -> str:
    """Return the hash of a request's idempotency key, or "" for an empty key."""
    try:
        return reports.idempotency_key(given, "") if given else ""
    except BadReport as err:
        raise RequestRefused(400, f"the batch {err}") from None


@dataclass(frozen=True, slots=True)
class _StoredUsage:
    """The JSON response to usage records, and the ids of the reports that they caused."""

    answer: dict[str, Any]
    report_ids: list[int]


def _usage(context: Context, body: bytes, batch: str) -> _StoredUsage:
    """Store the usage records in `body`, one a line, and apply the usage rules."""
    # Only store new reports. If handling them failed here, the client would send the same usage records again.
    try:
        listed = networks.load(context.settings.usage_listed_file)
    except BadNetworks as err:
        _log.error("usage was refused: the file of R8SCAN_USAGE_LISTED_FILE %s", err)
        raise RequestRefused(503, "the list of networks cannot be read: see the log", retry_after=60) from err
    if body.count(b"\n") > MAX_USAGE_LINES:
        raise RequestRefused(413, f"send at most {MAX_USAGE_LINES} lines at a time")
    reader = RecordReader(context.settings.digester(), listed, datetime.now(UTC))
    records: list[UsageRecord] = []
    bad: list[int] = []
    for number, line in numbered_lines(io.StringIO(body.decode("utf-8", "replace")), MAX_LINE_LENGTH):
        try:
            records.append(reader.read(line if line is not None else ""))
        except BadRecord:
            bad.append(number)
            if len(bad) > MAX_BAD_LINES:
                told = f"more than {MAX_BAD_LINES} lines are no usage records, so nothing was stored: send fewer lines"
                raise RequestRefused(413, told) from None
    sums = usage.summed(records)
    stored = usage.store(context.database, sums, rules_of(context.settings), batch=batch)
    answer = {"records": len(records), "bad": len(bad), "bad_lines": bad[:BAD_NAMED]}
    if batch:
        answer["repeated_tokens"] = stored.repeated
    return _StoredUsage(answer, stored.report_ids)


def _leaked_tokens(context: Context, found: list[FoundToken], client: str) -> list[int]:
    """Store reports about the tokens, and return the reports' ids."""
    # Do not handle the reports here: the response time would reveal which tokens are real.
    settings = context.settings
    try:
        return possession.record(
            context.database, settings.digester(), found, client=client, web_url=settings.github_web_url
        )
    except BadReport as err:
        raise RequestRefused(400, f"the report {err}") from None
    except TooManyRequests:
        raise RequestRefused(429, "too many reports: try again in a minute", retry_after=RATE_RETRY_SECONDS) from None


def _found_tokens(body: bytes, content_type: str) -> list[FoundToken]:
    """Return the tokens in a request's body. They may be malformed."""
    if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        try:
            form = parse_qs(body.decode("ascii", "replace"), max_num_fields=10)
        except ValueError:
            raise RequestRefused(400, "send the fields token and url") from None
        return [FoundToken(form.get("token", [""])[0], form.get("url", [""])[0])]
    value = _json(body)
    if isinstance(value, dict):
        return [_found_token(value)]
    if not isinstance(value, list) or not value:
        raise RequestRefused(400, "send a JSON object, or a list of tokens")
    if len(value) > possession.MAX_TOKENS:
        raise RequestRefused(413, f"send at most {possession.MAX_TOKENS} tokens at a time")
    return [FoundToken(one) if isinstance(one, str) else _found_token(one) for one in value]


def _found_token(value: Any) -> FoundToken:
    token, url = (value.get("token", ""), value.get("url") or "") if isinstance(value, dict) else (None, "")
    if not isinstance(token, str) or not isinstance(url, str):
        raise RequestRefused(400, "send the fields token and url as text")
    return FoundToken(token, url)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RequestRefused(400, "the body is not JSON") from None


def _json_object(body: bytes) -> dict[str, Any]:
    value = _json(body)
    if not isinstance(value, dict):
        raise RequestRefused(400, "the body is not a JSON object")
    return value


def _settle(context: Context, ids: list[int]) -> Counter[str]:
    settled = settling.settle(
        context.database, ids, policy=context.policy, per_minute=context.settings.brake_per_minute
    )
    if settled.has_notifications:
        wake_outbox()
    return settled.counts


async def _settle_later(pool: Pool, context: Context, ids: list[int]) -> None:
    """Handle the reports with these ids after the response was sent. If all threads are busy, a worker does it
    later.
    """
    if not ids:
        return
    try:
        await pool.run(_settle, context, ids)
    except RequestRefused:
        _log.warning("%d reports wait for the sweeper: too many are being decided on", len(ids))
    except Exception as err:
        if not is_unavailable(err):
            raise
        outage.database.failed(err)

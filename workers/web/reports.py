"""Signs of compromise over HTTP: `POST /reports` and `POST /usage` for internal systems, `POST /leaked-token` for all.

Answers never repeat what was sent. What is reported is recorded before it is answered.
"""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scanner.records.database import is_unavailable
from scanner.signs import networks, possession, reports, settling, usage
from scanner.signs.lines import numbered_lines
from scanner.signs.networks import BadNetworks
from scanner.signs.possession import TooManyRequests
from scanner.signs.reports import BadReport, NewReport
from scanner.signs.usage_records import LONGEST_LINE, BadRecord, RecordReader, UsageRecord
from scanner.signs.usage_rules import rules_of
from workers.context import Context
from workers.doorbell import ring_outbox
from workers.web.requests import Refused, body_of, guarded, require_key

REPORTS_BYTES = 1024 * 1024
MOST_REPORTS = 1000
USAGE_BYTES = 8 * 1024 * 1024
POSSESSION_BYTES = 16 * 1024
BAD_NAMED = 100

_log = logging.getLogger(__name__)


def routes(context: Context) -> list[Route]:
    """The routes; those of internal systems only where R8SCAN_REPORT_KEY is set."""
    key = context.settings.report_key

    @guarded
    async def take_reports(request: Request) -> Response:
        assert key is not None  # noqa: S101 - only mounted then
        require_key(request, key)
        body = await body_of(request, REPORTS_BYTES)
        return await run_in_threadpool(_reports, context, body)

    @guarded
    async def take_usage(request: Request) -> Response:
        assert key is not None  # noqa: S101 - only mounted then
        require_key(request, key)
        batch = _batch_key(request.headers.get("idempotency-key", ""))
        body = await body_of(request, USAGE_BYTES)
        return await run_in_threadpool(_usage, context, body, batch)

    @guarded
    async def take_leaked_token(request: Request) -> Response:
        body = await body_of(request, POSSESSION_BYTES)
        client = request.client.host if request.client else ""
        content_type = request.headers.get("content-type", "")
        return await run_in_threadpool(_leaked_token, context, body, content_type, client)

    internal = [
        Route("/reports", take_reports, methods=["POST"]),
        Route("/usage", take_usage, methods=["POST"]),
    ]
    return [*(internal if key is not None else ()), Route("/leaked-token", take_leaked_token, methods=["POST"])]


def _reports(context: Context, body: bytes) -> Response:
    given = _json_object(body).get("reports")
    if not isinstance(given, list) or not 0 < len(given) <= MOST_REPORTS:
        raise Refused(400, f'send {{"reports": [...]}} with 1 to {MOST_REPORTS} reports')
    good: list[NewReport] = []
    bad: list[dict[str, Any]] = []
    for index, one in enumerate(given):
        try:
            good.append(_report(context, one))
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


def _report(context: Context, one: Any) -> NewReport:
    if not isinstance(one, dict):
        raise BadReport("is not an object")
    named = [one[name] for name in ("digest", "token") if one.get(name) is not None]
    if len(named) != 1 or not isinstance(named[0], str):
        raise BadReport("names no token: give digest or token")
    subject = reports.subject_of(named[0], context.settings.digester())
    return reports.new_report(subject, sign=one.get("sign"), note=one.get("note"), reporter="api", key=one.get("key"))


def _batch_key(given: str) -> str:
    """Hashed, as every key is; empty where none was given."""
    try:
        return reports.idempotency_key(given, "") if given else ""
    except BadReport as err:
        raise Refused(400, f"the batch {err}") from None


def _usage(context: Context, body: bytes, batch: str) -> Response:
    """Add it up and answer; deciding comes after the answer: should it fail, that is no reason to send it again."""
    try:
        listed = networks.load(context.settings.usage_listed_file)
    except BadNetworks as err:
        _log.error("usage was refused: the file of R8SCAN_USAGE_LISTED_FILE %s", err)
        raise Refused(503, "the list of networks cannot be read: see the log", retry_after=60) from err
    reader = RecordReader(context.settings.digester(), listed, datetime.now(UTC))
    records: list[UsageRecord] = []
    bad: list[int] = []
    for number, line in numbered_lines(io.StringIO(body.decode("utf-8", "replace")), LONGEST_LINE):
        try:
            records.append(reader.read(line if line is not None else ""))
        except BadRecord:
            bad.append(number)
    sums = usage.summed(records)
    stored = usage.store(context.database, sums, rules_of(context.settings), batch=batch)
    answer = {"records": len(records), "bad": len(bad), "bad_lines": bad[:BAD_NAMED]}
    if batch:
        answer["repeated_tokens"] = stored.repeated
    return JSONResponse(answer, background=BackgroundTask(_settle_later, context, stored.report_ids))


def _leaked_token(context: Context, body: bytes, content_type: str, client: str) -> Response:
    """Record it and answer; deciding, which takes longer for a token that is ours, comes after the answer."""
    token, url = _possession_fields(body, content_type)
    try:
        ids = possession.record(
            context.database,
            context.settings.digester(),
            token=token,
            url=url,
            client=client,
            trusted_hosts=_trusted_hosts(context),
        )
    except BadReport as err:
        raise Refused(400, f"what you sent {err}") from None
    except TooManyRequests:
        raise Refused(429, "too many reports: try again in a minute", retry_after=60) from None
    answer = {"received": True, "message": "Thank you. If this is a working token of ours, it is disabled now."}
    return JSONResponse(answer, 202, background=BackgroundTask(_settle_later, context, ids))


def _possession_fields(body: bytes, content_type: str) -> tuple[str, str]:
    if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        try:
            form = parse_qs(body.decode("ascii", "replace"), max_num_fields=10)
        except ValueError:
            raise Refused(400, "send the fields token and url") from None
        return form.get("token", [""])[0], form.get("url", [""])[0]
    value = _json_object(body)
    token, url = value.get("token", ""), value.get("url") or ""
    if not isinstance(token, str) or not isinstance(url, str):
        raise Refused(400, "send the fields token and url as text")
    return token, url


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refused(400, "the body is not a JSON object")
    return value


def _trusted_hosts(context: Context) -> frozenset[str]:
    """Where an address may lead that an owner's mail shows as a link: the GitHub that we watch."""
    host = urlsplit(context.settings.github_web_url).hostname or ""
    return frozenset({host, f"gist.{host}"})


def _settle(context: Context, ids: list[int]) -> Counter[str]:
    settled = settling.settle(
        context.database, ids, policy=context.policy, per_minute=context.settings.brake_per_minute
    )
    if settled.has_news:
        ring_outbox()
    return settled.counts


def _settle_later(context: Context, ids: list[int]) -> None:
    try:
        _settle(context, ids)
    except Exception as err:
        if not is_unavailable(err):
            raise
        _log.error("a report waits: the database is away (%s)", type(err).__name__)

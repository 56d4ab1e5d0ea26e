"""A client for GitHub's GraphQL API.

https://docs.github.com/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from scanner.github.circuits import CANNOT_BE_REACHED
from scanner.github.client import ACCEPT, MAX_JSON_BYTES, GitHub, check_status, decoded, read_body
from scanner.github.errors import GitHubError, Malformed, RateLimited, Unavailable
from scanner.github.rate_limit import seconds_to_wait

RESOURCE = "graphql"
LIMIT_TYPES = ("RATE_LIMITED", "RATE_LIMIT", "SECONDARY_RATE_LIMITED")
"""Error types that mean a rate limit."""
HEAVY_TYPES = ("RESOURCE_LIMITS_EXCEEDED", "MAX_NODE_LIMIT_EXCEEDED")
"""Error types of a query that costs GitHub too much."""
MAX_ERRORS = 1000

_TYPE = re.compile(r"[A-Z_]{1,64}")


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a GraphQL query.

    Attributes:
        data: The value of `data`. It may be hostile, and parts of it may be null.
        errors: The number of errors by type, for example "NOT_FOUND".
        is_partial: Whether GitHub stopped the query early because of its cost.
        cost: The cost in points. 0 if the query does not ask for `rateLimit { cost }`.
    """

    data: Mapping[str, Any]
    errors: Counter[str] = field(default_factory=Counter)
    is_partial: bool = False
    cost: int = 0
    seconds: float = 0.0


def query(
    github: GitHub,
    text: str,
    variables: Mapping[str, Any],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """Send one GraphQL query and return its data.

    Raises:
        RateLimited: The quota of points is exhausted, or a secondary rate limit was reached.
        Unavailable: GitHub did not answer, or could not finish any part of the query.
        GitHubError: The answer has no data for another reason.
    """
    url, began = f"{github.api_url}/graphql", clock()
    host = urlsplit(url).hostname or ""
    body = json.dumps({"query": text, "variables": dict(variables)}).encode()
    headers = {"Accept": ACCEPT, "Content-Type": "application/json"}
    try:
        with github.http.stream(
            "POST",
            url,
            content=body,
            headers=headers,
            extensions={"reserve": github.reserve},
            follow_redirects=False,
        ) as response:
            content = read_body(response, MAX_JSON_BYTES, clock)
    except httpx.HTTPError as err:
        raise Unavailable("connection", f"{host} {CANNOT_BE_REACHED} ({type(err).__name__})") from err
    check_status(response, content, github.credential_label)
    if response.status_code != 200:
        raise Malformed("unexpected_status", f"{host} answered {response.status_code} to a query")
    value = decoded(content, host, dict)
    errors = _errors(value.get("errors"))
    if _is_limit(errors, value.get("errors")):
        limit = RateLimited("rate_limited", f"{host} limits our queries", retry_after=seconds_to_wait(response))
        # The gate will see only status 200, so tell it about the rate limit.
        github.gate.note_result(response.request.url.netloc.decode(), RESOURCE, limit)
        raise limit
    data = value.get("data")
    if not isinstance(data, dict) or all(part is None for key, part in data.items() if key != "rateLimit"):
        raise _without_data(host, errors)
    return Answer(data, errors, any(errors[name] for name in HEAVY_TYPES), _cost(data), clock() - began)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a JSON object, otherwise an empty mapping."""
    return value if isinstance(value, dict) else {}


def _errors(listed: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for error in listed[:MAX_ERRORS] if isinstance(listed, list) else ():
        found[_type_of(error)] += 1
    return found


def _type_of(error: Any) -> str:
    """Return the type of a GraphQL error, for example "NOT_FOUND". Return UNNAMED if it has none."""
    given = mapping(error).get("type")
    return given if isinstance(given, str) and _TYPE.fullmatch(given) else "UNNAMED"


def _is_limit(errors: Counter[str], listed: Any) -> bool:
    if any(errors[name] for name in LIMIT_TYPES):
        return True
    # GitHub may report a secondary rate limit as an error without a type, so check the text of such errors.
    texts: Sequence[Any] = listed[:MAX_ERRORS] if isinstance(listed, list) else ()
    messages = (mapping(error).get("message") for error in texts if _type_of(error) == "UNNAMED")
    return any("rate limit" in text[:500].lower() for text in messages if isinstance(text, str))


def _without_data(host: str, errors: Counter[str]) -> GitHubError:
    """Return the exception for an answer that has errors but no data."""
    if any(errors[name] for name in HEAVY_TYPES):
        return Unavailable("query_too_heavy", f"{host} finds a query too heavy")
    if errors["UNNAMED"]:
        return Unavailable("query_failed", f"{host} gave up on a query")
    kind = min(errors, default="NO_DATA")
    return Malformed("query_refused", f"{host} answered a query without data ({kind})")


def _cost(data: Mapping[str, Any]) -> int:
    cost = mapping(data.get("rateLimit")).get("cost")
    return cost if isinstance(cost, int) and 0 <= cost < 1_000_000 else 0

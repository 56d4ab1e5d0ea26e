"""Helpers for tests of the public events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
from sqlalchemy import select

from scanner.records.database import Database
from scanner.records.source_models import SourceState

API = "https://api.github.example"
HEAD, BEFORE = "a" * 40, "b" * 40


def push(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        "type": "PushEvent",
        "repo": {"id": 7, "name": "ana/app"},
        "payload": {"ref": "refs/heads/main", "before": BEFORE, "head": f"{number:040x}"},
        "created_at": "2026-11-20T10:00:00Z",
        **changes,
    }


def pages(*batches: list[dict[str, Any]], **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    """Return a request handler that answers each request with a page of events and an ETag."""

    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        assert request.url.params["per_page"] == "100"
        body = batches[page - 1] if page <= len(batches) else []
        etag = f'W/"{hash(json.dumps(body))}"'
        if request.headers.get("if-none-match") == etag:
            return httpx.Response(304, headers={"etag": etag, **headers})
        return httpx.Response(200, json=body, headers={"etag": etag, "x-poll-interval": "60", **headers})

    return answer


def text(number: int, **fields: Any) -> dict[str, Any]:
    return push(number, type="IssuesEvent", payload={"action": "opened"}, **fields)


def state(database: Database) -> SourceState:
    with database.read() as session:
        return session.execute(select(SourceState).where(SourceState.source == "public_events")).scalar_one()

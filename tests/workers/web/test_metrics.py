"""Tests that the Prometheus metrics are sent only to clients with the right key."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from pydantic import SecretStr
from starlette.routing import Route

from scanner.records.database import Database
from scanner.settings import load_settings
from workers.context import Context
from workers.web import metrics

Serve = Callable[[list[Route]], httpx.Client]
KEY = "the-key-of-prometheus"


def test_metrics_need_their_key(own_database: Database, serve: Serve) -> None:
    url = own_database.url.render_as_string(hide_password=False)
    context = Context(load_settings(database_url=url, metrics_key=SecretStr(KEY), sources=""))
    client = serve(metrics.routes(context))
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer no"}).status_code == 401
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})
    assert (answer.status_code, "r8scan_up 1.0" in answer.text) == (200, True)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    context.close()


def test_without_a_key_there_are_no_metrics() -> None:
    assert metrics.routes(Context(load_settings(sources=""))) == []

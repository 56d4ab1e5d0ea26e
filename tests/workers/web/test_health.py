"""Tests that `/health` reports no problem after a newer version has upgraded the database."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from scanner.records.database import Database
from scanner.settings import load_settings
from tests.workers.web.conftest import Serve
from workers.context import Context
from workers.web import health


@pytest.mark.parametrize(("revision", "status"), [("0001", 503), (None, 200), ("9999", 200)])
def test_only_older_tables_make_the_web_server_unhealthy(
    own_database: Database, serve: Serve, revision: str | None, status: int
) -> None:
    if revision is not None:
        with own_database.write() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    url = own_database.url.render_as_string(hide_password=False)
    context = Context(load_settings(database_url=SecretStr(url)))
    client = serve(health.routes(context))
    answer = client.get("/health")
    assert answer.status_code == status
    if status == 503:
        assert answer.json()["error"] == "the database is older than this program: run r8scan db upgrade"
    context.close()

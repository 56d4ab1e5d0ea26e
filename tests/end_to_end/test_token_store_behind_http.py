"""Tests of the whole service with a vendor whose token store has an HTTP API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, select

from scanner.detection import sha256_digest
from scanner.records.models import ApiToken, Incident
from scanner.records.source_models import SourceState
from tests.end_to_end.conftest import until
from workers.sandbox import token_store, world
from workers.sandbox.token_store import ReferenceStore
from workers.sandbox.world import World

MINUTE = 60.0


def polled(surroundings: World) -> bool:
    with surroundings.database.read() as session:
        statement = select(SourceState.last_success_at).where(SourceState.source == "public_events")
        return session.execute(statement).scalar_one_or_none() is not None


def test_a_leak_is_disabled_in_the_vendors_store_and_its_owner_notified(
    tmp_path: Path, fresh_token: Callable[[], str]
) -> None:
    token, store = fresh_token(), ReferenceStore("the-secret-of-the-store")
    digest = sha256_digest(token.encode())
    store.add(digest, name="nightly", recipients=("ana@acme.example", "bo@acme.example"))
    secret = tmp_path / "secret"
    secret.write_text("the-secret-of-the-store\n")
    with (
        token_store.running(store),
        world.running(tmp_path / "w", token_store_url=store.url, token_store_secret_file=str(secret)) as surroundings,
    ):
        surroundings.vendor_api.cache.is_live = lambda one: store.tokens[one]["disabled_at"] is None
        assert surroundings.answer(token) == 200
        surroundings.github.create_repository("ana/app")
        work = surroundings.workplace("ana/app")
        with surroundings.service() as service:
            until(lambda: polled(surroundings), MINUTE)
            work.write("app.py", f"x = '{token}'\n")
            work.commit("oops")
            work.push()
            until(lambda: store.tokens[digest]["disabled_at"], MINUTE)
            until(lambda: surroundings.answer(token) == 401, MINUTE)
            assert surroundings.mailbox.wait_for(2, MINUTE)
        assert service.returncode == 0
        with surroundings.database.read() as session:
            incident = session.execute(select(Incident)).scalar_one()
            assert session.execute(select(func.count()).select_from(ApiToken)).scalar_one() == 0
        assert (incident.action, incident.token_name) == ("disabled", "nightly")
        assert store.keys == {digest: str(incident.id)}
        assert sorted(surroundings.mailbox.recipients) == ["ana@acme.example", "bo@acme.example"]
        assert token not in json.dumps(store.tokens)

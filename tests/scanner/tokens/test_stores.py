"""Tests that both token stores answer look-ups in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import cast

import pytest

from scanner.records.database import Database
from scanner.response.store_access import access_to
from scanner.tokens import sql
from scanner.tokens.http import HttpStore
from scanner.tokens.imports import ImportedToken
from scanner.tokens.protocol import TokenStore
from scanner.tokens.registry import ImportRun
from scanner.tokens.sql import SqlStore
from workers.sandbox import token_store
from workers.sandbox.token_store import ReferenceStore

Opened = Callable[[Database], AbstractContextManager[TokenStore]]
LIVE, DISABLED, UNKNOWN = "a" * 64, "b" * 64, "c" * 64


@contextmanager
def sql_store(database: Database) -> Iterator[TokenStore]:
    with database.write() as session:
        rows = [ImportedToken(digest, "", "training", "ana", ("ana@example.com",)) for digest in (LIVE, DISABLED)]
        ImportRun.begin().write(session, rows)
        sql.disable(session, DISABLED, "a test")
    with closing(SqlStore(database)) as store:
        yield store


@contextmanager
def http_store(_: Database) -> Iterator[TokenStore]:
    reference = ReferenceStore("the-secret")
    for digest in (LIVE, DISABLED):
        reference.add(digest)
    reference.disable(DISABLED, "a-key", "a test")
    with token_store.running(reference), closing(HttpStore(reference.url, "the-secret")) as store:
        yield store


@pytest.mark.parametrize("opened", [sql_store, http_store])
def test_a_look_up_distinguishes_live_disabled_and_unknown_tokens(database: Database, opened: Opened) -> None:
    with opened(database) as store:
        found = store.look_up([LIVE, DISABLED, UNKNOWN])
        assert store.look_up([]).records == {}
    assert found.records.keys() == {LIVE, DISABLED}
    assert not found.not_checked
    assert found.records[LIVE].disabled_at is None
    assert found.records[DISABLED].disabled_at is not None
    for record in found.records.values():
        assert (record.name, record.recipients) == ("training", ("ana@example.com",))


@pytest.mark.parametrize("opened", [sql_store, http_store])
def test_a_response_can_ask_which_of_many_digests_are_known(database: Database, opened: Opened) -> None:
    with opened(database) as store:
        access = access_to(cast(SqlStore | HttpStore, store))
        asked = {LIVE, DISABLED, *(f"{number:064x}" for number in range(1_200))}
        assert set(access.known(database, asked) or ()) == {LIVE, DISABLED}
        assert not access.known(database, {UNKNOWN})

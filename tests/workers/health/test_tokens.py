"""Tests for the status of r8scan's own token store."""

from __future__ import annotations

from typing import Any

from scanner.records.canary_models import Canary
from scanner.records.database import Database
from scanner.records.models import ApiToken, db_now
from scanner.records.states import CanaryState, CanaryWay
from scanner.settings import load_settings
from workers.health.overview import overview
from workers.health.problems import Kind


def is_told(database: Database, **settings: Any) -> bool:
    return any(one.kind == Kind.STORE_EMPTY for one in overview(database, load_settings(**settings)).problems)


def test_an_own_token_store_without_tokens_is_a_problem_until_the_first_import(database: Database) -> None:
    assert is_told(database)
    with database.write() as session:
        session.add(ApiToken(digest="1" * 64))
        canary = {"way": CanaryWay.TEXTS, "slot": 1, "state": CanaryState.PLANTED, "planted_at": db_now()}
        session.add(Canary(digest="1" * 64, **canary))
    assert is_told(database), "a canary is no token of the vendor's"
    with database.write() as session:
        session.add(ApiToken(digest="2" * 64))
    assert not is_told(database)


def test_a_token_store_behind_http_is_not_counted(database: Database) -> None:
    assert not is_told(database, token_store_url="https://api.example.com/leaks", token_store_secret="x" * 32)

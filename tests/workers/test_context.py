"""Tests for the objects that all tasks of a process share, such as the GitHub clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scanner.records.schema import upgrade
from scanner.settings import load_settings
from workers.context import Context

APP = {"github_app_id": "4711", "github_app_installation_id": 99, "github_app_private_key": "no key"}


@pytest.mark.parametrize(
    ("app", "token", "general", "of_gists"),
    [
        ({}, None, "none", "none"),
        ({}, "a-token", "R8SCAN_GITHUB_TOKEN", "R8SCAN_GITHUB_TOKEN"),
        (APP, None, "GitHub App 4711, installation 99", "GitHub App 4711, installation 99"),
        (APP, "a-token", "GitHub App 4711, installation 99", "R8SCAN_GITHUB_TOKEN"),
    ],
)
def test_gists_are_listed_with_the_personal_token_beside_an_app(
    tmp_path: Path, app: dict[str, Any], token: str | None, general: str, of_gists: str
) -> None:
    opened = Context(load_settings(state_dir=tmp_path / "state", github_token=token, **app))
    upgrade(opened.database)
    assert opened.github.credential_label == general
    assert opened.github_of_gists.credential_label == of_gists
    for client in (opened.github, opened.github_of_gists):
        client.close()
    opened.database.close()


def test_closing_a_context_closes_what_it_opened(tmp_path: Path) -> None:
    opened = Context(load_settings(state_dir=tmp_path / "state", token_store_url="http://127.0.0.1:1"))
    upgrade(opened.database)
    engine, store, github = opened.database.engine, opened.store, opened.github
    pool = engine.pool
    opened.close()
    assert engine.pool is not pool, "a disposed engine has a new pool, without connections"
    assert github.http.is_closed
    with pytest.raises(RuntimeError, match="closed"):
        store.look_up(["0" * 64])


def test_closing_a_context_opens_nothing(tmp_path: Path) -> None:
    opened = Context(load_settings(state_dir=tmp_path / "state"))
    opened.close()
    assert not (tmp_path / "state" / "r8scan.db").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (2.0, 100.0)),
        ({"github_token": "a"}, (5.0, 100.0)),
        ({"git_rate": 20}, (20.0, 100.0)),
        ({"git_rate": 200}, (200.0, 200.0)),
        ({"git_rate": 20, "git_max_rate": 10}, (10.0, 10.0)),
        ({"github_web_url": "https://git.example"}, (1000.0, 1000.0)),
        ({"github_web_url": "https://git.example", "git_rate": 3, "git_max_rate": 9}, (3.0, 9.0)),
    ],
)
def test_git_begins_with_a_low_rate_at_github_and_a_high_one_at_other_hosts(
    tmp_path: Path, changes: dict[str, Any], expected: tuple[float, float]
) -> None:
    assert load_settings(state_dir=tmp_path / "state", **changes).git_rates() == expected

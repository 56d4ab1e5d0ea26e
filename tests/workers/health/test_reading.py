"""Tests that the status shows the rate of git requests, and what to do if GitHub refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanner.github.errors import RateLimited
from scanner.github.gate import RequestGate
from scanner.github.request_rate import RateBounds
from scanner.records.database import Database
from scanner.settings import load_settings
from scanner.sources.shared_budget import DatabaseLedger
from workers.health.overview import overview
from workers.health.problems import Kind


@pytest.mark.parametrize(("credential", "todo"), [("none", "R8SCAN_GITHUB_TOKEN"), ("a", "R8SCAN_GIT_MAX_RATE")])
def test_a_refusal_is_a_problem_that_says_what_to_do(
    database: Database, tmp_path: Path, credential: str, todo: str
) -> None:
    gate = RequestGate(credential, DatabaseLedger(database), git_rate=RateBounds(5.0, 100.0))
    gate.admit("github.example", "git")
    settings = load_settings(state_dir=tmp_path, sources=[])
    calm = overview(database, settings)
    assert [(rate.per_second, rate.refusals) for rate in calm.rates] == [(5.0, 0)]
    assert Kind.REQUESTS_LIMITED not in {problem.kind for problem in calm.problems}
    gate.note_result("github.example", "git", RateLimited("rate_limited", "limited", retry_after=60))
    limited = overview(database, settings)
    (problem,) = [one for one in limited.problems if one.kind == Kind.REQUESTS_LIMITED]
    (rate,) = limited.rates
    # GitHub's refusal has halved the rate of requests. The rate before was 5 requests a second, or less if the machine
    # was busy.
    assert (rate.refusals, rate.per_second <= 2.5) == (1, True)
    assert f"{rate.per_second:.1f} a second" in problem.sentence
    assert todo in problem.todo

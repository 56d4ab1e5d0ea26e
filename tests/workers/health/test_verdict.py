"""Tests for the first line of the status, which says whether the service works."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from workers.health.problems import Kind, Problem
from workers.health.rows import Configuration, Decisions, Overview, ProcessRow, SourceRow
from workers.health.verdict import verdict
from workers.queues import BEAT, QUEUES, WEB

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def process(role: str, silent_seconds: float = 0.0) -> ProcessRow:
    queues = tuple(queue for queue, consumer in QUEUES.items() if consumer == role)
    return ProcessRow(role, "host-1", 1, queues, NOW, NOW, silent_seconds, "1")


def source(name: str, error: str | None = None) -> SourceRow:
    return SourceRow(name, True, NOW, NOW, NOW, 0.0, 0, 0, {}, {}, {}, {}, {}, {}, {}, {}, error)


def service(*silent: str, silent_seconds: float = 45.0, without: str = "") -> Overview:
    """Return the state of a service with two polled sources and one process of each role.

    Args:
        silent: The roles whose process has sent no heartbeat for `silent_seconds` seconds.
        without: A role that has no process.
    """
    found = Overview(NOW, Configuration("disable", "smtp x", "own tables", ("gists", "public_events")))
    roles = [role for role in (*dict.fromkeys(QUEUES.values()), BEAT, WEB) if role != without]
    found.processes = [process(role, silent_seconds if role in silent else 0.0) for role in roles]
    found.sources = [source("gists"), source("public_events")]
    return found


def test_a_service_whose_workers_run_works_and_says_what_it_does() -> None:
    said = verdict(service())
    assert said.works
    assert said.sentence == "Working: disabling, 2 of 2 sources polled, nothing waits for you"


def test_a_service_of_which_only_the_web_server_runs_does_not_work() -> None:
    said = verdict(service(*QUEUES.values(), BEAT, silent_seconds=1680.0))
    assert not said.works
    assert said.sentence == "NOT WORKING: no worker runs, the last was seen 28 minutes ago; start r8scan run"
    found = service()
    found.processes = [process(WEB)]
    assert verdict(found).sentence == "NOT WORKING: no worker runs; start r8scan run"


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (BEAT, "no source is polled, because beat does not run"),
        ("poller", "no source is polled, because no poller runs"),
        ("scanner", "no push is read, because no scanner runs"),
        ("responder", "no found token is disabled, because no responder runs"),
    ],
)
def test_a_missing_role_without_which_leaks_stay_public_is_the_cause(role: str, words: str) -> None:
    for found in (service(role), service(without=role)):
        assert verdict(found).sentence == f"NOT WORKING: {words}; start r8scan run"


def test_a_service_of_several_machines_is_not_started_by_a_command_for_one_machine() -> None:
    found = service(without="poller")
    found.configuration = found.configuration._replace(is_one_machine=False)
    assert verdict(found).sentence.endswith("because no poller runs; start its service or container")


def test_without_a_rescanner_new_leaks_are_still_disabled() -> None:
    assert verdict(service("rescanner")).works


@pytest.mark.parametrize("kind", [Kind.DATABASE_AWAY, Kind.REDIS_AWAY, Kind.STORE_AWAY, Kind.DISABLING_WAITS])
def test_a_problem_that_stops_all_work_is_the_cause(kind: Kind) -> None:
    found = service()
    found.problems = [Problem(Kind.OPERATOR_NOT_SET, "x", "y"), Problem(kind, "it does not answer", "repair it")]
    said = verdict(found)
    assert (said.works, said.problems) == (False, 2)
    assert said.sentence == "NOT WORKING: it does not answer; repair it"


def test_a_service_with_problems_works_and_names_their_number_and_what_waits() -> None:
    found = service()
    found.sources[0] = source("gists", error="x")
    found.problems = [Problem(Kind.SOURCE_ERROR, "x", "y", subject="gists"), Problem(Kind.FLAGGED_WAITS, "x", "y")]
    found.decisions = Decisions(flagged=3)
    said = verdict(found)
    assert said.works
    assert said.problems == 1, "a decision that waits is counted by its tokens"
    assert said.sentence == "Working, with 1 problem: disabling, 1 of 2 sources polled, 3 tokens wait for your decision"


def unpolled(seconds: float, *problems: Problem) -> Overview:
    """Return the state of a service that was started `seconds` ago and has polled no source since."""
    found = service()
    found.at = NOW + timedelta(seconds=seconds)
    found.sources = [one._replace(last_success_at=None) for one in found.sources]
    found.problems = list(problems)
    return found


def test_a_service_that_has_polled_no_source_is_starting_for_a_minute_and_then_names_the_cause() -> None:
    fails = Problem(Kind.SOURCE_ERROR, "gists: api.github.com cannot be reached", "it is tried again", subject="gists")
    said = verdict(unpolled(12, fails))
    assert (said.works, said.starts) == (False, True)
    assert said.sentence == "Starting, with 1 problem: started 12 s ago, no source is polled yet"
    said = verdict(unpolled(61, fails))
    assert (said.works, said.starts) == (False, False)
    assert said.sentence == (
        "NOT WORKING: no source could be polled for 61 s: gists: api.github.com cannot be reached; it is tried again"
    )
    setting = Problem(
        Kind.SOURCE_ERROR, "code_search: it needs a credential", "set GITHUB_TOKEN", subject="code_search"
    )
    polled = replace(fails, since=NOW)
    assert "gists: api.github.com" in verdict(unpolled(61, setting, polled)).sentence, "it was polled before"
    rejected = Problem(Kind.CREDENTIAL_REJECTED, "GitHub rejects the credential x", "replace it")
    assert "for 61 s: GitHub rejects the credential x; replace it" in verdict(unpolled(61, fails, rejected)).sentence


def test_a_service_whose_processes_start_is_starting_unless_its_database_is_the_cause() -> None:
    found = service(without="poller")
    found.starting_seconds = 3.2
    said = verdict(found)
    assert (said.works, said.starts) == (False, True)
    assert said.sentence == "Starting: started 3 s ago, not all processes run yet"
    found.problems = [Problem(Kind.DATABASE_READ_ONLY, "the database cannot be written", "repair it")]
    assert verdict(found).sentence.startswith("NOT WORKING: the database cannot be written")


def test_a_service_whose_sources_all_fail_works_only_until_the_last_successful_poll_is_20_seconds_old() -> None:
    found = unpolled(3600)
    found.problems = [Problem(Kind.SOURCE_ERROR, "x", "y", subject=one.source) for one in found.sources]
    for seconds, works in ((15, True), (25, False)):
        polled_at = found.at - timedelta(seconds=seconds)
        found.sources = [one._replace(last_success_at=polled_at, error="x") for one in found.sources]
        assert verdict(found).works is works


def test_a_service_does_not_work_while_github_is_away_even_if_the_next_poll_of_most_sources_is_not_due() -> None:
    found = service()
    found.at, polled_at = NOW + timedelta(seconds=84), NOW + timedelta(seconds=60)
    found.sources = [one._replace(last_success_at=polled_at) for one in (source("gists", "x"), source("public_events"))]
    sentence = "gists: api.github.com cannot be reached (ReadTimeout)"
    found.problems = [Problem(Kind.SOURCE_ERROR, sentence, "it is tried again", polled_at, "gists")]
    assert verdict(found).sentence.startswith("Working, with 1 problem: disabling, 1 of 2 sources polled")
    found.is_github_away = True
    assert verdict(found).sentence == (
        f"NOT WORKING: no source could be polled for 24 s: {sentence}; it is tried again"
    )


def test_a_service_that_knows_no_token_does_not_work() -> None:
    found = service(BEAT)
    found.problems = [Problem(Kind.STORE_EMPTY, "no token is known", "import your tokens")]
    assert "beat does not run" in verdict(found).sentence, "a missing process is the more general cause"
    found.processes = service().processes
    assert verdict(found).sentence == "NOT WORKING: no token is known; import your tokens"


def test_a_service_without_sources_does_not_work() -> None:
    found = service()
    found.sources = []
    assert verdict(found).sentence == "NOT WORKING: no source is on; set R8SCAN_SOURCES"


def test_a_service_that_only_observes_says_so() -> None:
    found = service()
    found.configuration = Configuration("observe", "smtp x", "own tables", ("gists",))
    assert "observing only, disabling nothing" in verdict(found).sentence

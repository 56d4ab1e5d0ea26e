"""Tests that the public events are polled at the interval that GitHub asks for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from sqlalchemy import select, update

from scanner.detection import Detector
from scanner.github.client import GitHub, connect
from scanner.records import leases, spool
from scanner.records.database import Database
from scanner.records.models import ScanJob, Sighting, db_now
from scanner.records.source_models import Gap, SourceState
from scanner.response.policy import Policy
from scanner.response.respond import look_up_again
from scanner.settings import load_settings
from scanner.sources.batches import recovery
from scanner.sources.polling import leased_poll
from scanner.sources.polling.report import PollReport
from scanner.sources.timeline.poll import poll
from tests.scanner.sources.timeline.paging import BEFORE, HEAD, pages, push, state
from workers.health.overview import read_rows
from workers.health.problems import Kind, Problem


def ago(seconds: float) -> str:
    return f"{datetime.now(UTC) - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def list_of(start: int, *, newest: float, seconds: float = 4.0, count: int = 100) -> list[dict[str, Any]]:
    """Return a list of `count` events with successive ids from `start`.

    The newest event is `newest` seconds old. The oldest is about `seconds` seconds older than the newest.
    """
    return [push(start + n, created_at=ago(newest + seconds * n / count)) for n in range(count)]


def test_pushes_become_jobs_together_with_the_cursor(
    api: respx.Router, database: Database, polled: Callable[[], PollReport]
) -> None:
    api.get("/events").mock(side_effect=pages([push(n) for n in range(1, 61)]))
    report = polled()
    assert (report.events, report.jobs) == (60, 3)
    with database.read() as session:
        targets = session.execute(select(ScanJob.target)).scalars().all()
    assert sorted(len(target["pushes"]) for target in targets) == [10, 25, 25]
    assert polled().jobs == 0
    assert state(database).counts["events"] == 60


def test_no_event_that_a_database_would_refuse_stops_the_polling(
    api: respx.Router, database: Database, polled: Callable[[], PollReport], fresh_token: Callable[[], str]
) -> None:
    hostile = "nul \x00 lone \ud800 rtl \u202e " + "long" * 5000
    payload = {"ref": hostile, "before": BEFORE, "head": HEAD, "ref_type": "branch", "description": hostile}
    issue = {"title": hostile, "body": f"{hostile} {fresh_token()}", "html_url": f"https://github.example/{hostile}"}
    text = json.dumps(
        [
            push(1, id=f"id {hostile}", payload=payload),
            push(2, type="CreateEvent", payload=payload),
            push(3, type="IssuesEvent", payload={"issue": issue}, repo={"id": 2**70, "name": hostile}),
            push(4, type=hostile, actor={"login": hostile}),
            push(5, created_at="0001-01-01T00:00:00+14:00"),
            push(6, created_at="9999-12-31T23:59:59-14:00"),
        ]
    )
    api.get("/events").mock(return_value=httpx.Response(200, content=text, headers={b"etag": b"W/\xff"}))
    report = polled()
    assert (report.events, report.candidates) == (6, 1)
    again = polled()
    assert (again.events, state(database).counts["events"]) == (0, 6)
    assert look_up_again(database, policy=Policy()).sightings == 1


def test_two_simultaneous_polls_send_one_request(
    api: respx.Router, database: Database, github: GitHub, tmp_path: Path
) -> None:
    route = api.get("/events").mock(side_effect=pages([push(1)]))
    threads = [
        threading.Thread(target=poll, args=(database, github, Detector()), kwargs={"state_dir": tmp_path})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert route.call_count == 1


def test_a_poll_that_is_not_due_sends_no_request(
    api: respx.Router, database: Database, github: GitHub, tmp_path: Path
) -> None:
    route = api.get("/events").mock(side_effect=pages([]))
    waited: list[float] = []
    for _ in range(3):
        poll(database, github, Detector(), state_dir=tmp_path, wait=waited.append)
    assert route.call_count == 1
    assert waited == []
    with database.read() as session:
        ahead = session.execute(select(SourceState.next_poll_at > db_now(50))).scalar_one()
    assert ahead


def test_inline_text_is_scanned_where_it_is_polled_and_never_stored(
    api: respx.Router, database: Database, polled: Callable[[], PollReport], fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    issue = {"title": "help", "body": f"my token {token} does not work", "html_url": "https://github.example/ana/app/1"}
    api.get("/events").mock(side_effect=pages([push(1, type="IssuesEvent", payload={"issue": issue})]))
    assert polled().candidates == 1
    with database.read() as session:
        sighting = session.execute(select(Sighting)).scalar_one()
        assert (sighting.state, sighting.kind) == ("unchecked", "issue")
        assert sighting.url == issue["html_url"]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"issue": ' + b'{"a":[' * 5_000 + b"1" + b"]}" * 5_000 + b"}",
        b'{"push_id": ' + b"9" * 5_000 + b"}",
        b'{"issue": {"title": "\xff"}}',
        b'{"issue": {"title": "x", "html_url": "https://["}}',
    ],
    ids=["deep", "number", "not UTF-8", "address"],
)
def test_an_event_that_cannot_be_read_hides_no_other_event_of_its_page(
    api: respx.Router,
    database: Database,
    polled: Callable[[], PollReport],
    fresh_token: Callable[[], str],
    payload: bytes,
) -> None:
    issue = {"title": "help", "body": f"my token is {fresh_token()}", "html_url": "https://github.example/ana/app/1"}
    before, after = (json.dumps(push(n, type="IssuesEvent", payload={"issue": issue})).encode() for n in (1, 3))
    bad = json.dumps(push(2, type="IssuesEvent", payload=None)).encode().replace(b"null", payload)
    assert payload in bad
    body = b"[" + b", ".join([before, bad, after]) + b"]"
    api.get("/events").mock(return_value=httpx.Response(200, content=body, headers={"x-poll-interval": "60"}))
    report = polled()
    assert (report.error, report.events, report.candidates) == (None, 3, 2)


def test_an_error_is_recorded_and_retried_with_growing_delays(
    api: respx.Router, database: Database, polled: Callable[[], PollReport]
) -> None:
    api.get("/events").mock(return_value=httpx.Response(401))
    for failures in (1, 2, 3):
        assert polled().error == "bad_credential"
        assert state(database).failures == failures
    assert "none" in str(state(database).error)
    api.get("/events").mock(side_effect=pages([]))
    assert polled().error is None
    assert (state(database).failures, state(database).error) == (0, None)


def test_events_wait_in_the_spool_while_the_database_is_unavailable(
    api: respx.Router,
    database: Database,
    polled: Callable[[], PollReport],
    fresh_token: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sqlalchemy.exc import OperationalError

    from scanner.sources.timeline import poll as public_events

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("INSERT", {}, Exception("the server is gone"))

    token = fresh_token()
    comment = {"body": token}
    events = [push(1), push(2, type="PublicEvent"), push(3, type="CommitCommentEvent", payload={"comment": comment})]
    api.get("/events").mock(side_effect=pages(events))
    monkeypatch.setattr(public_events, "_commit", away)
    with pytest.raises(OperationalError):
        polled()
    files = list((tmp_path / spool.FOLDER).iterdir())
    assert len(files) == 1
    assert token not in files[0].read_text()
    assert recovery.take_back(database, tmp_path) == 1
    with database.read() as session:
        assert sorted(session.execute(select(ScanJob.kind)).scalars()) == ["pushes", "repository"]
        assert session.execute(select(Sighting.state)).scalars().all() == ["unchecked"]
    assert recovery.take_back(database, tmp_path) == 0


def gaps(database: Database) -> list[Gap]:
    with database.read() as session:
        return list(session.execute(select(Gap).order_by(Gap.id)).scalars())


def problems(database: Database, state_dir: Path) -> list[Problem]:
    settings = load_settings(state_dir=state_dir, sources=["public_events"])
    with database.read() as session:
        return [one for one in read_rows(session, settings).problems if one.kind == Kind.SOURCE_STALE]


def test_a_list_that_never_changes_is_noticed_despite_its_etag(
    api: respx.Router, database: Database, polled: Callable[[], PollReport], tmp_path: Path
) -> None:
    with database.write() as session:  # another source has seen newer pushes, so the list should have changed
        session.add(SourceState(source="new_repositories", next_poll_at=db_now(60), newest_seen_at=db_now(-5)))
    route = api.get("/events").mock(side_effect=pages(list_of(0, newest=60, count=30)))
    polled()
    polled()
    assert route.calls.last.response.status_code == 304
    assert ("stale_list" in state(database).counts, state(database).cursor["is_stale"]) == (False, False)
    with database.write() as session:
        aged = update(SourceState).where(SourceState.source == "public_events")
        session.execute(aged.values(newest_seen_at=datetime.now(UTC) - timedelta(minutes=16)))
    polled()
    assert route.calls.last.response.status_code == 304
    assert state(database).counts["stale_list"] == 1
    polled()
    assert "if-none-match" not in route.calls.last.request.headers
    assert not problems(database, tmp_path), "the list is at most a minute old"
    api.get("/events").mock(side_effect=pages(list_of(900, newest=3600, count=30)))
    polled()
    (problem,) = problems(database, tmp_path)
    assert problem.sentence.startswith("public_events: GitHub serves an old list")
    api.get("/events").mock(side_effect=pages(list_of(1900, newest=5, count=30)))
    polled()
    assert not state(database).cursor["is_stale"]


def test_an_unchanged_list_counts_as_old_only_if_another_source_has_seen_newer_pushes(
    api: respx.Router, database: Database, polled: Callable[[], PollReport], tmp_path: Path
) -> None:
    api.get("/events").mock(side_effect=pages(list_of(0, newest=3600, count=30)))
    for _ in range(2):
        polled()
        assert not problems(database, tmp_path), "nothing may have happened for an hour"
    with database.write() as session:
        session.add(SourceState(source="repository_search", next_poll_at=db_now(60), newest_seen_at=db_now(-5)))
    polled()
    (problem,) = problems(database, tmp_path)
    assert problem.sentence.startswith("public_events: GitHub serves an old list")


def test_a_list_that_goes_back_in_time_is_old_on_every_github(
    api: respx.Router, database: Database, polled: Callable[[], PollReport]
) -> None:
    for start, newest, is_stale in ((900, 5, False), (0, 3600, True)):
        api.get("/events").mock(side_effect=pages(list_of(start, newest=newest, count=30)))
        polled()
        assert state(database).cursor["is_stale"] == is_stale


def test_an_old_list_of_the_public_github_counts_as_old_without_other_proof(database: Database, tmp_path: Path) -> None:
    github = connect("https://api.github.com", "https://github.com", None)
    with respx.mock(base_url="https://api.github.com") as router:
        router.get("/events").mock(side_effect=pages(list_of(0, newest=3600, count=30)))
        poll(database, github, Detector(), state_dir=tmp_path)
    github.close()
    assert state(database).cursor["is_stale"]


def test_one_event_that_is_hours_late_does_not_hide_a_gap(
    api: respx.Router, database: Database, polled: Callable[[], PollReport]
) -> None:
    api.get("/events").mock(side_effect=pages(list_of(0, newest=600)))
    polled()
    late = [push(5000, created_at=ago(5 * 3600)), push(5001, created_at="9999-01-01T00:00:00Z")]
    api.get("/events").mock(side_effect=pages([*list_of(900, newest=0, count=98), *late]))
    polled()
    (gap,) = gaps(database)
    assert 590 < (gap.until_at - gap.from_at).total_seconds() < 601
    assert abs((datetime.now(UTC) - gap.until_at).total_seconds()) < 30
    assert 10_000 < gap.estimated < 20_000, "some 25 a second for ten minutes"


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_clock_that_differs_from_githubs_hides_no_gap_and_makes_no_list_old(
    api: respx.Router, database: Database, polled: Callable[[], PollReport], ahead: int
) -> None:
    date = formatdate(time.time() + ahead, usegmt=True)
    api.get("/events").mock(side_effect=pages(list_of(0, newest=600 - ahead), date=date))
    polled()
    seen = state(database).newest_seen_at
    assert seen is not None
    assert abs((seen - datetime.now(UTC)).total_seconds() + 600 - ahead) < 30
    api.get("/events").mock(side_effect=pages(list_of(900, newest=5 - ahead), date=date))
    polled()
    assert len(gaps(database)) == 1
    assert "stale_list" not in state(database).counts
    assert abs(state(database).cursor["clock_seconds"] - ahead) < 30, "the status reports the clock's difference"


def test_a_malformed_date_is_ignored(api: respx.Router, database: Database, polled: Callable[[], PollReport]) -> None:
    for date in ("Fri, 31 Dec 9999 23:59:59 -1400", "Thu, 01 Jan 1970 00:00:00 GMT", "soon"):
        api.get("/events").mock(side_effect=pages(list_of(0, newest=60, count=30), date=date))
        polled()
    assert "stale_list" not in state(database).counts


def test_a_slow_poll_keeps_its_lease(
    api: respx.Router, database: Database, polled: Callable[[], PollReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    renewed = threading.Event()
    renew = leases.renew

    def noted(*arguments: Any, **options: Any) -> bool:
        kept = renew(*arguments, **options)
        renewed.set()
        return kept

    def slow(request: httpx.Request) -> httpx.Response:
        with database.write() as session:
            session.execute(update(SourceState).values(leased_until=db_now(1)))
        renewed.clear()
        assert renewed.wait(20)
        with database.read() as session:
            assert session.execute(select(SourceState.leased_until > db_now(20))).scalar_one()
        return pages([push(1)])(request)

    monkeypatch.setattr(leases, "renew", noted)
    api.get("/events").mock(side_effect=slow)
    assert polled().jobs == 1


def test_events_of_a_poll_that_lost_its_lease_are_still_queued(
    api: respx.Router, database: Database, polled: Callable[[], PollReport], fresh_token: Callable[[], str]
) -> None:
    def overtaken(request: httpx.Request) -> httpx.Response:
        with database.write() as session:
            session.execute(update(SourceState).values(attempts=SourceState.attempts + 1, cursor={"known_ids": ["x"]}))
        comment = {"body": fresh_token()}
        return pages([push(1), push(2, type="CommitCommentEvent", payload={"comment": comment})])(request)

    api.get("/events").mock(side_effect=overtaken)
    report = polled()
    assert (report.events, report.jobs, report.candidates) == (2, 1, 1)
    assert state(database).cursor == {"known_ids": ["x"]}
    with database.read() as session:
        assert session.execute(select(Sighting.state)).scalars().all() == ["unchecked"]


def test_retries_of_a_failed_poll_are_spread(
    api: respx.Router, database: Database, polled: Callable[[], PollReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leased_poll, "spread", lambda seconds: seconds + 5000)
    api.get("/events").mock(return_value=httpx.Response(500))
    polled()
    with database.read() as session:
        assert session.execute(select(SourceState.next_poll_at > db_now(4900))).scalar_one()

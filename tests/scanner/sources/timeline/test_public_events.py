"""The timeline is polled as GitHub asks for it, with any answer of GitHub's, and each event is committed once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import stamina
from sqlalchemy import select, update

from scanner.detection import Detector
from scanner.github.client import GitHub, connect
from scanner.github.credentials import PersonalToken
from scanner.github.errors import BadCredential, Forbidden, GitHubError, Malformed, RateLimited, Unavailable
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
from scanner.sources.timeline.pages import Cursor, poll_pages
from scanner.sources.timeline.poll import poll
from workers.health.overview import empty, read_rows
from workers.health.problems import Problem

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
    """Return a timeline of pages, with an ETag for each."""

    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        assert request.url.params["per_page"] == "100"
        body = batches[page - 1] if page <= len(batches) else []
        etag = f'W/"{hash(json.dumps(body))}"'
        if request.headers.get("if-none-match") == etag:
            return httpx.Response(304, headers={"etag": etag, **headers})
        return httpx.Response(200, json=body, headers={"etag": etag, "x-poll-interval": "60", **headers})

    return answer


@pytest.fixture
def github() -> Iterator[GitHub]:
    client = connect(API, "https://github.example", None)
    yield client
    client.close()


@pytest.fixture
def api() -> Iterator[respx.Router]:
    with respx.mock(base_url=API, assert_all_called=False) as router:
        yield router


def full(start: int) -> list[dict[str, Any]]:
    return [push(number) for number in range(start, start + 100)]


def ago(seconds: float) -> str:
    return f"{datetime.now(UTC) - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def list_of(start: int, *, newest: float, seconds: float = 4.0, count: int = 100) -> list[dict[str, Any]]:
    """Return a list of events whose newest one is `newest` seconds old, spread over `seconds`."""
    return [push(start + n, created_at=ago(newest + seconds * n / count)) for n in range(count)]


def test_further_pages_are_asked_for_while_they_are_full_and_bring_something_new(
    api: respx.Router, github: GitHub
) -> None:
    route = api.get("/events").mock(side_effect=pages(full(200), full(100), full(0)))
    polled = poll_pages(github, Cursor())
    assert len(polled.events) == 300
    assert route.call_count == 3
    assert not polled.has_gap


@pytest.mark.parametrize("unusable", [1, 5])
def test_events_that_cannot_be_used_do_not_end_the_paging(api: respx.Router, github: GitHub, unusable: int) -> None:
    odd = [{"id": None}] * unusable + full(200)[unusable:]
    route = api.get("/events").mock(side_effect=pages(odd, full(100)[3:], full(0)))
    assert len(poll_pages(github, Cursor()).events) == 297 - unusable
    assert route.call_count == 3


def text(number: int, **fields: Any) -> dict[str, Any]:
    return push(number, type="IssuesEvent", payload={"action": "opened"}, **fields)


def test_page_1_is_asked_for_alone_until_the_pages_of_texts_are_due(api: respx.Router, github: GitHub) -> None:
    texts = [text(number) for number in range(500, 600)]
    route = api.get("/events").mock(side_effect=pages(full(0), texts, **{"X-Poll-Interval": "60"}))
    cursor = poll_pages(github, Cursor(), 1000.0).cursor
    cursor = poll_pages(github, replace(cursor, etags={}), 1001.0).cursor
    poll_pages(github, replace(cursor, etags={}), 1060.0)
    asked = [call.request.url.params["page"] for call in route.calls]
    assert asked == ["1", "2", "3", "1", "1", "2", "3"]


def test_texts_that_overlap_do_not_hide_that_pushes_were_missed(api: respx.Router, github: GitHub) -> None:
    texts = [text(number) for number in range(500, 600)]
    api.get("/events").mock(side_effect=pages(full(0), texts))
    cursor = poll_pages(github, Cursor()).cursor
    api.get("/events").mock(side_effect=pages(full(900), texts))
    polled = poll_pages(github, replace(cursor, texts_at=0.0))
    assert (polled.pushes.has_gap, polled.texts.has_gap) == (True, False)


def test_pushes_that_overlap_do_not_hide_that_texts_were_missed(api: respx.Router, github: GitHub) -> None:
    api.get("/events").mock(side_effect=pages(full(0), [text(number) for number in range(500, 600)]))
    cursor = poll_pages(github, Cursor()).cursor
    api.get("/events").mock(side_effect=pages(full(50), [text(number) for number in range(700, 800)]))
    polled = poll_pages(github, replace(cursor, texts_at=0.0))
    assert (polled.pushes.has_gap, polled.texts.has_gap) == (False, True)


@pytest.mark.parametrize(("seconds", "expected"), [(None, 3000), (0.72, 0.72)])
def test_the_poll_interval_is_obeyed_unless_github_has_consented_to_another(
    database: Database, api: respx.Router, github: GitHub, tmp_path: Path, seconds: float | None, expected: float
) -> None:
    api.get("/events").mock(side_effect=pages([push(1)], **{"x-poll-interval": "3000"}))
    poll(database, github, Detector(), state_dir=tmp_path, seconds=seconds, wait=lambda _: None)
    with database.read() as session:
        state = session.execute(select(SourceState)).scalar_one()
    assert state.claimed_at is not None
    # Two statements set the two times, and a busy machine may pause between them.
    assert (state.next_poll_at - state.claimed_at).total_seconds() == pytest.approx(expected, abs=600)


def test_github_itself_says_whether_there_is_a_next_page(api: respx.Router, github: GitHub) -> None:
    more = pages(full(200)[:40], full(100), link=f'<{API}/events?page=2>; rel="next"')
    route = api.get("/events").mock(side_effect=more)
    assert len(poll_pages(github, Cursor()).events) == 140
    route.mock(side_effect=pages(full(200), full(100), link=f'<{API}/events?page=1>; rel="first"'))
    route.calls.reset()
    assert len(poll_pages(github, Cursor()).events) == 100


def test_a_page_that_is_not_full_is_the_last(api: respx.Router, github: GitHub) -> None:
    route = api.get("/events").mock(side_effect=pages([push(1)]))
    poll_pages(github, Cursor())
    assert route.call_count == 1


def test_an_unchanged_timeline_costs_one_conditional_request(api: respx.Router, github: GitHub) -> None:
    route = api.get("/events").mock(side_effect=pages([push(1)]))
    first = poll_pages(github, Cursor())
    again = poll_pages(github, first.cursor)
    assert (again.events, again.has_gap, route.call_count) == ([], False, 2)
    assert again.counts["not_modified"] == 1


def test_an_etag_is_not_shown_to_another_credential(api: respx.Router, github: GitHub) -> None:
    route = api.get("/events").mock(side_effect=pages([push(1)]))
    cursor = poll_pages(github, Cursor()).cursor
    poll_pages(replace(github, credential=PersonalToken("x", "another")), cursor)
    assert "if-none-match" not in route.calls.last.request.headers


def test_new_events_behind_a_known_one_are_not_lost(api: respx.Router, github: GitHub) -> None:
    api.get("/events").mock(side_effect=pages([push(1), push(2)]))
    cursor = poll_pages(github, Cursor()).cursor
    api.get("/events").mock(side_effect=pages([push(1), push(5), push(2), push(3)]))
    polled = poll_pages(github, cursor)
    assert [event.id for event in polled.events] == ["5", "3"]
    assert not polled.has_gap


def test_descending_ids_count_as_new(api: respx.Router, github: GitHub) -> None:
    api.get("/events").mock(side_effect=pages([push(900), push(901)]))
    cursor = poll_pages(github, Cursor()).cursor
    api.get("/events").mock(side_effect=pages([push(3), push(901)]))
    assert [event.id for event in poll_pages(github, cursor).events] == ["3"]


def test_two_polls_that_do_not_overlap_are_a_gap(api: respx.Router, github: GitHub) -> None:
    api.get("/events").mock(side_effect=pages(full(0)))
    cursor = poll_pages(github, Cursor()).cursor
    api.get("/events").mock(side_effect=pages(full(900), full(800), full(700)))
    assert poll_pages(github, cursor).has_gap


def test_a_page_that_failed_is_still_owed_when_the_first_one_has_not_changed(api: respx.Router, github: GitHub) -> None:
    serve = pages(full(200), full(100), full(0))

    def second_fails(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503) if request.url.params["page"] == "2" else serve(request)

    api.get("/events").mock(side_effect=second_fails)
    first = poll_pages(github, Cursor())
    assert (len(first.events), first.cursor.owed_pages) == (100, (2, 3))
    assert first.error is not None
    api.get("/events").mock(side_effect=serve)
    again = poll_pages(github, first.cursor)
    assert len(again.events) == 200
    assert again.cursor.owed_pages == ()


def test_a_burst_of_503_on_the_second_page_is_retried_within_the_poll(api: respx.Router, github: GitHub) -> None:
    serve, failures = pages(full(200), full(100), full(0)), [503, 502]

    def bursts(request: httpx.Request) -> httpx.Response:
        if request.url.params["page"] == "2" and failures:
            return httpx.Response(failures.pop())
        return serve(request)

    api.get("/events").mock(side_effect=bursts)
    with stamina.set_testing(True, attempts=3):
        polled = poll_pages(github, Cursor())
    assert (len(polled.events), polled.error, polled.cursor.owed_pages) == (300, None, ())


def test_a_body_that_breaks_off_is_an_error_and_its_page_is_owed(api: respx.Router, github: GitHub) -> None:
    class Reset(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield json.dumps(full(100)).encode()[:5000]
            raise httpx.ReadError("reset")

    serve = pages(full(200), full(100), full(0))

    def second_breaks(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Reset()) if request.url.params["page"] == "2" else serve(request)

    api.get("/events").mock(side_effect=second_breaks)
    polled = poll_pages(github, Cursor())
    assert polled.error is not None
    assert (polled.error.reason, polled.cursor.owed_pages) == ("connection", (2, 3))


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (httpx.Response(406, json={}), GitHubError, "http_406"),
        (httpx.Response(304), Malformed, "not_modified"),
        (httpx.Response(401, json={"message": "Bad credentials"}), BadCredential, "bad_credential"),
        (httpx.Response(403, json={"message": "nope"}), Forbidden, "forbidden"),
        (httpx.Response(403, headers={"x-ratelimit-remaining": "0"}), RateLimited, "rate_limited"),
        (
            httpx.Response(403, json={"message": "You have exceeded a secondary rate limit"}),
            RateLimited,
            "rate_limited",
        ),
        (httpx.Response(429), RateLimited, "rate_limited"),
        (httpx.Response(500), Unavailable, "http_500"),
        (httpx.Response(502, html="<h1>Unicorn!</h1>"), Unavailable, "http_502"),
        (httpx.Response(200, html="<h1>Hello</h1>"), Malformed, "not_json"),
        (httpx.Response(200, json={"message": "hm"}), Malformed, "unexpected_json"),
        (httpx.Response(422, json={}), GitHubError, "http_422"),
        (httpx.ReadTimeout("slow"), Unavailable, "connection"),
        (httpx.RemoteProtocolError("reset"), Unavailable, "connection"),
    ],
)
def test_each_failure_has_its_name(
    api: respx.Router, github: GitHub, answer: Any, error: type[GitHubError], reason: str
) -> None:
    api.get("/events").mock(side_effect=[answer])
    with pytest.raises(error) as caught:
        poll_pages(github, Cursor())
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_a_limit_says_for_how_long(api: respx.Router, github: GitHub) -> None:
    api.get("/events").mock(return_value=httpx.Response(429, headers={"retry-after": "17"}))
    with pytest.raises(RateLimited) as caught:
        poll_pages(github, Cursor())
    assert caught.value.retry_after == 17


@pytest.mark.parametrize("header", ["", "soon", "nan", "-5", "1e400"])
def test_a_strange_poll_interval_does_no_harm(api: respx.Router, github: GitHub, header: str) -> None:
    api.get("/events").mock(return_value=httpx.Response(200, json=[], headers={"x-poll-interval": header}))
    assert 1.0 <= poll_pages(github, Cursor()).interval <= 3600.0


def test_another_host_is_never_asked(api: respx.Router, github: GitHub) -> None:
    api.get("/events").mock(return_value=httpx.Response(302, headers={"location": "https://evil.example/events"}))
    with respx.mock(assert_all_called=False) as outside:
        evil = outside.get("https://evil.example/events")
        with pytest.raises(GitHubError):
            poll_pages(github, Cursor())
        assert not evil.called


# --- with the database -------------------------------------------------------------------------------------------


@pytest.fixture
def polled(database: Database, github: GitHub, tmp_path: Path) -> Callable[[], PollReport]:
    """Poll now, even if the poll is not due."""

    def run() -> PollReport:
        with database.write() as session:
            session.execute(update(SourceState).values(next_poll_at=db_now(-1)))
        return poll(database, github, Detector(), state_dir=tmp_path, wait=lambda seconds: None)

    return run


def state(database: Database) -> SourceState:
    with database.read() as session:
        return session.execute(select(SourceState)).scalar_one()


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


def test_two_polls_at_once_ask_once(api: respx.Router, database: Database, github: GitHub, tmp_path: Path) -> None:
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


def test_the_source_says_when_it_is_due(api: respx.Router, database: Database, github: GitHub, tmp_path: Path) -> None:
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
def test_an_event_that_cannot_be_read_hides_none_of_its_page(
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

    def away(*_: Any) -> None:
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


# --- lists that are old, late or of another clock ----------------------------------------------------------------


def gaps(database: Database) -> list[Gap]:
    with database.read() as session:
        return list(session.execute(select(Gap).order_by(Gap.id)).scalars())


def problems(database: Database, state_dir: Path) -> list[Problem]:
    settings = load_settings(state_dir=state_dir, sources=["public_events"])
    found = empty(settings)
    with database.read() as session:
        read_rows(session, settings, found)
    return found.problems


def test_a_list_that_never_changes_is_noticed_despite_its_etag(
    api: respx.Router, database: Database, polled: Callable[[], PollReport], tmp_path: Path
) -> None:
    route = api.get("/events").mock(side_effect=pages(list_of(0, newest=60, count=30)))
    polled()
    polled()
    assert route.calls.last.response.status_code == 304
    assert ("stale_list" in state(database).counts, state(database).cursor["is_stale"]) == (False, False)
    with database.write() as session:
        session.execute(update(SourceState).values(newest_seen_at=datetime.now(UTC) - timedelta(minutes=16)))
    polled()
    assert route.calls.last.response.status_code == 304
    assert state(database).counts["stale_list"] == 1
    polled()
    assert "if-none-match" not in route.calls.last.request.headers
    assert not problems(database, tmp_path), "the list that came is no older than a minute"
    api.get("/events").mock(side_effect=pages(list_of(900, newest=3600, count=30)))
    polled()
    (problem,) = problems(database, tmp_path)
    assert problem.sentence.startswith("public_events: GitHub serves an old list")
    api.get("/events").mock(side_effect=pages(list_of(1900, newest=5, count=30)))
    polled()
    assert not state(database).cursor["is_stale"]


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
    assert abs(state(database).cursor["clock_seconds"] - ahead) < 30, "the status tells of it"


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

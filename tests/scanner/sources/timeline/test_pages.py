"""Tests of the requests for pages of public events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import stamina
from sqlalchemy import select

from scanner.detection import Detector
from scanner.github.client import GitHub
from scanner.github.credentials import PersonalToken
from scanner.github.errors import BadCredential, Forbidden, GitHubError, Malformed, RateLimited, Unavailable
from scanner.records.database import Database
from scanner.records.source_models import SourceState
from scanner.sources.timeline.pages import Cursor, poll_pages
from scanner.sources.timeline.poll import poll
from tests.scanner.sources.timeline.paging import API, pages, push, text


def full(start: int) -> list[dict[str, Any]]:
    return [push(number) for number in range(start, start + 100)]


def test_further_pages_are_requested_while_they_are_full_and_have_new_events(api: respx.Router, github: GitHub) -> None:
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


def test_only_page_1_is_requested_until_the_pages_of_texts_are_due(api: respx.Router, github: GitHub) -> None:
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
    assert state.cursor["interval"] == 3000
    # A busy machine may pause between the two statements that set these times.
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


def test_a_failed_page_is_requested_again_even_if_the_first_page_has_not_changed(
    api: respx.Router, github: GitHub
) -> None:
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


def test_a_body_that_breaks_off_is_an_error_and_its_page_is_requested_again(api: respx.Router, github: GitHub) -> None:
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
def test_each_failure_has_its_own_reason(
    api: respx.Router, github: GitHub, answer: Any, error: type[GitHubError], reason: str
) -> None:
    api.get("/events").mock(side_effect=[answer])
    with pytest.raises(error) as caught:
        poll_pages(github, Cursor())
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_a_rate_limit_says_how_long_to_wait(api: respx.Router, github: GitHub) -> None:
    api.get("/events").mock(return_value=httpx.Response(429, headers={"retry-after": "17"}))
    with pytest.raises(RateLimited) as caught:
        poll_pages(github, Cursor())
    assert caught.value.retry_after == 17


@pytest.mark.parametrize("header", ["", "soon", "nan", "-5", "1e400"])
def test_a_strange_poll_interval_does_no_harm(api: respx.Router, github: GitHub, header: str) -> None:
    api.get("/events").mock(return_value=httpx.Response(200, json=[], headers={"x-poll-interval": header}))
    assert 1.0 <= poll_pages(github, Cursor()).interval <= 3600.0


def test_no_request_is_sent_to_another_host(api: respx.Router, github: GitHub) -> None:
    api.get("/events").mock(return_value=httpx.Response(302, headers={"location": "https://evil.example/events"}))
    with respx.mock(assert_all_called=False) as outside:
        evil = outside.get("https://evil.example/events")
        with pytest.raises(GitHubError):
            poll_pages(github, Cursor())
        assert not evil.called

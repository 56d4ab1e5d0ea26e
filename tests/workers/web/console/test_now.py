"""Tests for the first page of the console, which shows a summary, the problems and some numbers."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import httpx
from sqlalchemy import delete, update

from scanner.records.database import Database
from scanner.records.health_models import Heartbeat
from scanner.records.models import Exposure, Incident, Notification, db_now
from scanner.records.states import Cause, Channel, Decision, IncidentState, NotificationState
from tests.workers.web.console.conftest import signed_in
from tests.workers.web.console.test_pages import whole
from workers.context import Context
from workers.health.overview import overview
from workers.health.problems import DECISIONS, Kind, Problem
from workers.health.rows import Configuration, Overview
from workers.health.verdict import verdict
from workers.queues import WEB
from workers.web.console.pages.now import lights
from workers.web.console.problem_groups import ADVICE, PAGES, advised, grouped


def first_page(client: httpx.Client) -> str:
    return whole(client.get("/console/").text)


def test_without_workers_the_first_page_says_that_nothing_works(viewer: httpx.Client, own_database: Database) -> None:
    with own_database.write() as session:
        session.execute(delete(Heartbeat).where(Heartbeat.role != WEB))
    page = first_page(viewer)
    assert "NOT WORKING: no worker" in page
    assert "start r8scan run" in page
    assert "Workers has a problem:" in page
    assert "No problem is known" not in page


def test_the_first_page_does_not_hide_leaks_behind_a_report_of_many_tokens(
    viewer: httpx.Client, own_database: Database
) -> None:
    with own_database.write() as session:
        for number in range(30):
            values = {"token_id": "1", "token_name": "reported", "account_name": "ana", "hint": f"r8_rep…{number:04}"}
            cause = {"cause": Cause.COMPROMISE_SIGNS, "action": Decision.DISABLED, "state": IncidentState.OPEN}
            session.add(Incident(digest=uuid.uuid4().hex * 2, detected_at=datetime.now(UTC), **values, **cause))
    leaks, _, rest = first_page(viewer).partition("Newest leaks found in public")[2].partition("Newest reports and")
    assert "reported" not in leaks
    assert leaks.count("ago") >= 5
    assert 1 <= rest.count("r8_rep…") <= 5


def test_reports_disabled_today_are_not_contradicted_by_the_chart_of_public_leaks(
    viewer: httpx.Client, own_database: Database
) -> None:
    with own_database.write() as session:
        session.execute(update(Exposure).values(published_at=None))
    page = first_page(viewer)
    assert "Nothing was disabled" not in page
    assert "No token with a known time in public was disabled in two weeks" in page
    assert "nothing found in public was disabled" in page


def test_problems_with_one_cause_are_one_line_and_mails_that_wait_come_before_rate_limits() -> None:
    limits = [
        Problem(Kind.REQUESTS_LIMITED, f"quota {number} is used up", "wait", subject=str(number)) for number in "abcde"
    ]
    mail = Problem(Kind.MESSAGE_WAITS, "the oldest message has waited for an hour", "check the server")
    stopped = Problem(Kind.REDIS_AWAY, "Redis does not answer", "bring it back")
    found = grouped([*limits, mail, stopped])
    assert [(one.title, len(one.problems)) for one in found] == [
        ("Redis away", 1),
        ("Messages wait", 1),
        ("GitHub limits requests", 5),
    ]
    assert found[2].advice == ["wait"]


def test_each_kind_of_problem_links_to_a_page_that_exists(viewer: httpx.Client, own_database: Database) -> None:
    assert set(PAGES) == set(Kind) - set(DECISIONS)
    for path in {page.path for page in PAGES.values()}:
        address, _, part = path.partition("#")
        page = viewer.get(address)
        assert page.status_code == 200, path
        assert not part or f'id="{part}"' in page.text, path
    with own_database.write() as session:
        late = datetime.now(UTC) - timedelta(hours=1)
        session.execute(update(Notification).values(state=NotificationState.FAILED, created_at=late))
    assert '<a href="/console/outbox?state=failed">Failed messages</a>' in viewer.get("/console/").text


def test_the_verdict_of_the_console_and_of_the_status_is_the_same_and_counts_what_the_page_lists(
    viewer: httpx.Client, context: Context
) -> None:
    page = first_page(viewer)
    said = verdict(overview(context.database, context.settings))
    assert said.problems > 0
    assert f"Working, with {said.problems} problem" in page
    assert f" {said.problems} problem{'s' if said.problems > 1 else ''} " in page.partition("as of")[2]
    assert f"Now {said.problems} problems Incidents" in page


def test_advice_in_the_console_names_no_command_where_a_person_can_act_without_one(
    viewer: httpx.Client, own_database: Database
) -> None:
    for kind in ADVICE:
        assert "r8scan " not in advised(Problem(kind, "it waits", "run r8scan store check")).todo, kind
    late = {"created_at": db_now(-7200), "next_attempt_at": db_now(-3600)}
    with own_database.write() as session:
        session.execute(update(Incident).values(action=Decision.DISABLING, detected_at=db_now(-3600)))
        session.execute(update(Notification).values(state=NotificationState.PENDING, **late))
    page = viewer.get("/console/").text
    problems = page.partition('aria-labelledby="problems"')[2].partition("</section>")[0]
    assert "bring the token store back" in problems
    assert "bring the mail server back" in problems
    assert "r8scan " not in problems
    assert "r8scan " not in page.partition("<h1")[2].partition("</h1>")[0]


def test_a_silent_process_is_the_first_of_the_processes(viewer: httpx.Client, own_database: Database) -> None:
    late = datetime.now(UTC) - timedelta(minutes=8, seconds=30)
    with own_database.write() as session:
        session.execute(update(Heartbeat).where(Heartbeat.role == "scanner").values(seen_at=late, started_at=late))
    page = viewer.get("/console/").text
    rows = whole(page.partition('id="processes"')[2].partition("</table>")[0])
    assert "scanner silent 8 min " in rows.partition(" runs ")[0]


def test_the_outbox_says_how_long_a_message_waits_and_since_when_it_is_due(
    viewer: httpx.Client, context: Context, own_database: Database
) -> None:
    now = datetime.now(UTC)
    with own_database.write() as session:
        waits = Notification.state == NotificationState.PENDING
        times = {"created_at": now - timedelta(minutes=40), "next_attempt_at": now - timedelta(minutes=12)}
        session.execute(update(Notification).where(waits).values(**times))
    page = whole(viewer.get("/console/outbox?state=pending").text)
    assert "oldest 40 min" in page
    assert "due since 12 min" in page
    assert "next try" not in page
    assert (
        '<button class="main small">Try again'
        in signed_in(viewer, context, "ana").get("/console/outbox?state=failed").text
    )


def test_a_gateway_that_waits_does_not_turn_the_light_of_the_mail_red() -> None:
    configuration = Configuration("disable", "smtp mail.example.com", "own tables", ("gists",))
    for channel, tone in ((Channel.WEBHOOK, "good"), (Channel.EMAIL, "bad")):
        waits = Problem(Kind.MESSAGE_WAITS, "it waits", "check it", subject=channel)
        found = Overview(at=datetime.now(UTC), configuration=configuration, problems=[waits])
        (light,) = [one for one in lights(found) if one.name == "Mail"]
        assert light.tone == tone

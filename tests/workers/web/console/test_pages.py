"""Tests that every page shows the values in the database, and hostile text as plain text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import httpx
import pytest
from sqlalchemy import text

from scanner.records import audit
from scanner.records.canary_models import Canary
from scanner.records.columns import String, Text
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import Account, ApiToken, Exposure, Incident, Notification, Recipient, ScanJob
from scanner.records.reading_models import UnreadContent
from scanner.records.source_models import BudgetState, Gap, SourceState, Tally
from tests.console_pictures import pages
from tests.workers.web.console.conftest import newest_incident, signed_in
from tests.workers.web.console.filled import HOSTILE
from workers.context import Context
from workers.web.console import rendering
from workers.web.console.rendering import counted, words

PAGES = (
    *("/console/", "/console/incidents", "/console/decisions", "/console/tokens", "/console/tokens?show=accounts"),
    *("/console/jobs", "/console/outbox", "/console/sources", "/console/audit"),
)


class Tags(HTMLParser):
    """An HTML parser that collects a page's tags and their attributes in `found`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def whole(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_every_page_answers_and_loads_nothing_from_elsewhere(viewer: httpx.Client) -> None:
    for path in PAGES:
        answer = viewer.get(path)
        assert answer.status_code == 200, path
        for tag, values in Tags(answer.text).found:
            assert not any(name == "style" or name.startswith("on") for name in values), (path, tag, values)
            assert tag not in ("style", "img", "object", "embed"), path
            loaded = values.get("src") or (values.get("href") if tag == "link" else None)
            assert loaded is None or loaded.startswith("/console/static/"), (path, loaded)
            assert tag != "script" or loaded, path


def test_hostile_text_is_never_markup(viewer: httpx.Client, context: Context) -> None:
    incident = f"/console/incidents/{newest_incident(context, token_name=HOSTILE)}"
    for path in (*PAGES, incident):
        page = viewer.get(path).text
        assert "<img" not in page, path
        assert "\u202e" not in page, path
    page = viewer.get(incident).text
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "{{7*7}}" in page


KEPT_BY_THE_SERVICE = {
    "id",
    "state",
    "action",
    "cause",
    "kind",
    "channel",
    "digest",
    "place_key",
    "way",
    "role",
    "sign",
}
"""Columns that only the service itself writes. Pages rely on their values, so the test does not change them."""
SHOWN = (Account, ApiToken, BudgetState, Canary, Exposure, Gap, Incident, Notification, Recipient, Report, ScanJob)


def test_no_column_that_a_page_shows_can_inject_markup(viewer: httpx.Client, context: Context) -> None:
    addresses = [path for _, path in pages(context)]
    changed = 0
    with context.database.write() as session:
        for model in (*SHOWN, SourceState, Tally, UnreadContent):
            for column in model.__table__.columns:
                is_text = isinstance(column.type, (String, Text)) and not column.primary_key and not column.foreign_keys
                if is_text and column.name not in KEPT_BY_THE_SERVICE:
                    # Give each row a different value, because some columns have a unique index.
                    marked = text(f'UPDATE {model.__tablename__} SET "{column.name}" = :hostile || rowid')
                    session.execute(marked, {"hostile": HOSTILE})
                    changed += 1
    assert changed > 40
    for path in addresses:
        page = viewer.get(path).text
        assert "<img" not in page, path
        assert "\u202e" not in page, path


def test_the_first_page_says_what_is_disabled_what_is_wrong_and_what_waits(viewer: httpx.Client) -> None:
    page = whole(viewer.get("/console/").text)
    assert re.search(r"Working, with \d+ problems?: disabling, \d of \d sources polled, \d+ tokens wait", page)
    assert "holds 9 reports" in page
    assert "2 protected tokens are public and still work" in page
    assert "Repositories with most incidents" in page


def test_the_page_of_an_incident_shows_its_places_and_notifications(viewer: httpx.Client, context: Context) -> None:
    page = whole(viewer.get(f"/console/incidents/{newest_incident(context, action='disabled')}").text)
    assert re.search(r"found in \w+/[\w-]+ and \d+ more places, and disabled [\d.]+ s after it became public", page)
    assert "Open on GitHub" in page
    assert "incident opened" in page


def test_places_beyond_the_first_page_are_one_click_away(viewer: httpx.Client, context: Context) -> None:
    address = f"/console/incidents/{newest_incident(context, action='disabled')}"
    first = viewer.get(address).text
    more = re.search(r'href="(\?after=\d+)#places"', first)
    assert more is not None
    second = viewer.get(address + more[1]).text
    assert "More places" not in second
    assert second.count("Open on GitHub") + first.count("Open on GitHub") > 30


def test_a_mail_is_shown_as_its_owner_got_it_in_a_frame_without_rights(viewer: httpx.Client, context: Context) -> None:
    page = viewer.get(f"/console/incidents/{newest_incident(context, action='protected')}").text
    mail = re.search(r"/console/mails/[0-9a-f-]{36}", page)
    assert mail is not None
    shown = viewer.get(mail[0])
    assert shown.status_code == 200
    assert re.search(r'<iframe class="mail" sandbox title', shown.text)
    html = viewer.get(f"{mail[0]}/html")
    assert "sandbox" in html.headers["Content-Security-Policy"].split("; ")
    assert "script-src" not in html.headers["Content-Security-Policy"]
    assert html.headers["X-Frame-Options"] == "SAMEORIGIN"


def test_a_missing_page_says_so(viewer: httpx.Client) -> None:
    for path in ("/console/incidents/x", f"/console/incidents/{'0' * 32}", "/console/mails/x", "/console/nothing"):
        answer = viewer.get(path)
        assert answer.status_code == 404, path
        assert "Not found" in answer.text


def test_a_page_that_refreshes_itself_asks_for_itself_with_its_filter(viewer: httpx.Client) -> None:
    page = viewer.get("/console/incidents?action=disabled&state=open").text
    assert 'hx-get="/console/incidents?state=open&amp;action=disabled"' in page


def test_sources_show_measured_recall_with_its_interval_and_canaries(viewer: httpx.Client) -> None:
    for path in ("/console/", "/console/sources"):
        page = whole(viewer.get(path).text)
        assert "95 to 97 %" in page, path
        assert "within 1 h" in page, path
        assert "texts" in page, path
    page = whole(viewer.get("/console/sources").text)
    assert "Of 1 200 pushes that other sources saw, it saw 42 to 48 % within 1 min" in page
    assert "2 150 000 (1 990 000 to 2 330 000)" in page
    assert "Missed: 1 gap with about 220 events, 28 contents not read." in page
    assert "not measured" in page


def test_the_first_page_has_the_buttons_of_the_brake_for_operators_only(client: httpx.Client, context: Context) -> None:
    forms = "/console/decisions/confirm?act=release", "/console/decisions/confirm?act=reject"
    assert not any(form in signed_in(client, context, "vera").get("/console/").text for form in forms)
    assert all(form in signed_in(client, context, "ana").get("/console/").text for form in forms)


def test_the_timeline_names_no_actor_where_none_is_known(viewer: httpx.Client, context: Context) -> None:
    page = whole(viewer.get(f"/console/incidents/{newest_incident(context)}").text)
    assert "became public 20" in page
    assert "by unknown" not in page


def test_an_incident_shows_its_places_and_mails_before_the_possible_actions(
    operator: httpx.Client, context: Context
) -> None:
    page = operator.get(f"/console/incidents/{newest_incident(context)}").text
    parts = [page.index(f'id="{name}"') for name in ("places", "told", "story", "facts", "acts", "notes")]
    assert parts == sorted(parts)
    assert page.index('href="#acts"') < parts[0], "the actions are one step away for the keyboard and on a telephone"


def test_sign_ins_do_not_hide_decisions_of_people_and_times_are_relative(
    viewer: httpx.Client, own_database: Database
) -> None:
    with own_database.write() as session:
        for number in range(60):
            audit.record(session, "console_signed_in", {"network": f"192.0.2.{number}"}, who="console:ana")
        at = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
        audit.record(session, "brake_rejected", {"reports": 2, "closed_at": at}, who="console:ana")
    shown = whole(viewer.get("/console/audit?people=1").text)
    assert "console signed in" not in shown
    assert "brake released" in shown
    assert "closed at 3 h ago" in shown
    for query in ("people=1&sign_ins=1", "people=1&what=console_signed_in", "who=console:ana"):
        assert "console signed in" in whole(viewer.get(f"/console/audit?{query}").text), query


def test_the_audit_shows_no_empty_evidence_and_lists_as_their_items(
    viewer: httpx.Client, own_database: Database
) -> None:
    with own_database.write() as session:
        evidence = {
            "closed_at": None,
            "note": "",
            "jobs": [4, 7],
            "reports": {"disabled": 3, "held": None},
            "dry": True,
        }
        audit.record(session, "brake_rejected", evidence, who="console:ana")
    shown = whole(viewer.get("/console/audit?what=brake_rejected").text)
    assert "jobs 4, 7, reports disabled 3, dry yes" in shown
    assert "None" not in shown
    assert "closed at" not in shown


def test_a_token_without_a_hint_is_shown_by_its_digest_and_its_incident_can_be_opened(
    viewer: httpx.Client, context: Context
) -> None:
    one = newest_incident(context, hint="")
    row = viewer.get("/console/incidents?action=held").text
    shown = re.search(rf'href="/console/incidents/{one}"><code>(digest [0-9a-f]{{8}}…)</code>', row)
    assert shown
    assert f"<h1><code>{shown[1]}</code>" in viewer.get(f"/console/incidents/{one}").text


def test_a_prepared_process_compiles_no_template_during_a_request(
    viewer: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendering.prepare()
    monkeypatch.setattr(rendering.environment(), "compile", None)
    for path in ("/console/", "/console/incidents", "/console/jobs", "/console/no/such/page"):
        assert viewer.get(path).status_code in (200, 404), path


def test_counters_are_singular_for_one() -> None:
    counters = ((1, "node_queries"), (2, "node_queries"), (1, "first_pushes"), (1, "candidates_in_fragments"))
    shown = [counted(number, name) for number, name in (*counters, (1, "too_large"))]
    assert shown == ["1 node query", "2 node queries", "1 first push", "1 candidate in fragments", "1 too large"]


def test_names_of_states_and_counters_are_shown_as_words_that_a_reader_knows() -> None:
    assert [words(name) for name in ("frozen", "already_disabled")] == ["in delivery", "already disabled"]
    assert words("windows_thin") == "search windows with far fewer results than usual"


def test_the_list_shows_a_path_as_it_is(viewer: httpx.Client, context: Context) -> None:
    with context.database.write() as session:
        session.execute(text("UPDATE exposures SET path = 'my_file.py'"))
    assert "my_file.py" in whole(viewer.get("/console/incidents").text)

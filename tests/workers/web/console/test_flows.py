"""Tests of an operator's actions in a real browser: with the mouse, with the keyboard, and on a phone."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select, update

from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import ApiToken, Incident, Notification, NotificationSubject, ScanJob
from scanner.records.source_models import SourceState
from scanner.records.states import Cause, Decision, IncidentState, JobState, NotificationState, ReportState
from tests.browser import LOOKS, chromium, window
from tests.workers.web.console.conftest import PASSWORD, client_of, context_of, newest_incident, signed_in
from tests.workers.web.console.identities import values_of
from tests.workers.web.console.steps import AXE, OTHER_LOOKS, act, console, needs_chromium, violations
from workers.context import Context

pytestmark = needs_chromium
DONE: Final = "status"
DESKTOP, DARK_TELEPHONE = LOOKS[0], LOOKS[3]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


def is_disabled(database: Database, incident: object) -> bool:
    with database.read() as session:
        statement = select(ApiToken.disabled_at).join(Incident, Incident.digest == ApiToken.digest)
        return session.execute(statement.where(Incident.id == incident)).scalar_one() is not None


def count_of(database: Database, state: NotificationState) -> int:
    with database.read() as session:
        return len(session.execute(select(Notification.id).where(Notification.state == state)).all())


def mailed_incident(database: Database) -> uuid.UUID:
    """Return the id of the newest incident with a disabled token and a sent mail."""
    statement = select(Incident.id).join(NotificationSubject).join(Notification).order_by(Incident.detected_at.desc())
    wanted = (Incident.action == Decision.DISABLED, Notification.state == NotificationState.SENT)
    with database.read() as session:
        return session.execute(statement.where(*wanted).limit(1)).scalar_one()


def test_an_incident_is_assigned_noted_disabled_closed_and_opened_again(browser: Browser, context: Context) -> None:
    one = newest_incident(context, action=Decision.FLAGGED)
    with console(browser, context) as page:
        page.goto(f"/console/incidents/{one}")
        page.get_by_role("button", name="Assign it to me").click()
        expect(page.get_by_role(DONE)).to_contain_text("another assignee")
        act(page, "assign", to="vera")
        expect(page.locator("dl.facts")).to_contain_text("vera")
        page.get_by_label("New note").fill("called the owner")
        page.get_by_role("button", name="Add the note").click()
        expect(page.locator("section", has_text="called the owner").first).to_contain_text("console:ana")
        act(page, "protect")
        expect(page.get_by_label("Why").and_(page.locator(":invalid:focus"))).to_have_count(1)
        page.locator("details[open]").get_by_label("Why").fill("asked by the owner")
        page.get_by_role("button", name="Protect it").click()
        expect(page.locator("form[action$='/disable']")).to_have_count(0)
        act(page, "unprotect", reason="agreed")
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert violations(page, DESKTOP.width) == []
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
        act(page, "disable", url="https://tickets.example/7", reason="it is abused")
        expect(page.get_by_role(DONE)).to_contain_text("The token is disabled")
        assert is_disabled(context.database, one)
        act(page, "close", reason="its owner has a new one")
        expect(page.get_by_role(DONE)).to_contain_text("The incident is closed.")
        act(page, "reopen", reason="it is abused again")
        expect(page.get_by_role(DONE)).to_contain_text("The incident is open again.")
        act(page, "enable", reason="a false alarm")
        expect(page.get_by_role(DONE)).to_contain_text("The token works again.")
        assert not is_disabled(context.database, one)


def test_a_failed_mail_and_one_that_was_sent_are_queued_again(browser: Browser, context: Context) -> None:
    before = count_of(context.database, NotificationState.FAILED)
    pending = count_of(context.database, NotificationState.PENDING)
    with console(browser, context) as page:
        page.goto("/console/outbox?state=failed")
        expect(page.get_by_role("button", name="Try again")).to_have_count(before)
        page.get_by_role("button", name="Try again").first.click()
        expect(page.get_by_role(DONE)).to_contain_text("The message is queued once more.")
        page.locator("[data-row]").first.click()
        expect(page.frame_locator("iframe").locator("body")).to_contain_text("token")
        page.goto(f"/console/incidents/{mailed_incident(context.database)}")
        act(page, "resend", reason="the owner asked for it")
        expect(page.get_by_role(DONE)).to_contain_text("The owner's mail is queued once more.")
    assert count_of(context.database, NotificationState.PENDING) == pending + 2, "the failed mail and the resent one"


def test_an_address_is_rescanned_cancelled_and_a_failed_job_tried_again(browser: Browser, context: Context) -> None:
    with console(browser, context) as page:
        page.goto("/console/jobs")
        page.get_by_label("Address of a repository").fill("https://github.com/acme/weather-bot")
        page.get_by_role("button", name="Rescan").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("acme/weather-bot")
        page.get_by_role("button", name="Cancel the job").click()
        expect(page.get_by_role(DONE)).to_contain_text("The job is cancelled.")
        page.goto("/console/jobs?state=failed")
        page.locator("[data-row]").first.click()
        page.get_by_role("button", name="Try it again").click()
        expect(page.get_by_role(DONE)).to_contain_text("The job is queued.")
        page.goto("/console/jobs")
        page.get_by_role("link", name=re.compile("not read")).first.click()
        expect(page.get_by_role("table", name="Contents that were not read")).to_contain_text("models/weights.bin")
        assert violations(page, DESKTOP.width) == []
    with context.database.read() as session:
        states = session.execute(select(ScanJob.state).order_by(ScanJob.id.desc()).limit(2)).scalars().all()
    assert states == [JobState.QUEUED, JobState.CANCELLED]


def test_a_saved_filter_opens_as_it_was_and_acts_on_all_that_match(browser: Browser, context: Context) -> None:
    with console(browser, context) as page:
        page.goto("/console/incidents")
        page.get_by_text("More filters").click()
        page.get_by_label("State").select_option("open")
        page.get_by_label("Done").select_option("disabled")
        page.get_by_label("Source").select_option("code_search")
        page.get_by_role("button", name="Filter").click()
        saved = page.url
        rows = page.locator("[data-row]")
        expect(rows.first).to_be_visible()
        hints = rows.all_inner_texts()
        page.goto("/console/")
        page.goto(saved)
        expect(page.get_by_label("Source")).to_have_value("code_search")
        assert rows.all_inner_texts() == hints
        page.get_by_role("button", name="Close…").click()
        expect(page.locator("#main")).to_contain_text(f"{len(hints)} incidents match")
        assert violations(page, DESKTOP.width) == []
        page.get_by_label("Why").fill("one campaign")
        page.get_by_role("button", name=f"Close incidents: {len(hints)} incidents").click()
        expect(page.get_by_role(DONE)).to_contain_text(f"{len(hints)} done.")
        page.goto(saved)
        expect(page.locator("#list")).to_contain_text("No incident matches this filter.")


def test_a_telephone_in_the_dark_releases_the_brake_from_the_first_page(browser: Browser, context: Context) -> None:
    with console(browser, context, DARK_TELEPHONE) as page:
        page.goto("/console/")
        assert violations(page, DARK_TELEPHONE.width, OTHER_LOOKS[1][2]) == []
        release, reject = (page.get_by_role("link", name=name) for name in ("Release 9…", "Reject 9…"))
        tops = [box["y"] for one in (release, reject) if (box := one.bounding_box())]
        assert tops == [tops[0]] * 2, "the buttons are side by side, so that a thumb hits the right one"
        release.click()
        assert violations(page, DARK_TELEPHONE.width, OTHER_LOOKS[1][2]) == []
        page.get_by_label("Why").fill("all are real")
        page.get_by_role("button", name="Disable 9 tokens").click()
        expect(page.get_by_role(DONE)).to_contain_text("The brake is open")
        page.get_by_role("link", name="Incidents").click()
        page.locator("[data-row]").first.click()
        act(page, "close", reason="seen on the way home")
        expect(page.get_by_role(DONE)).to_contain_text("The incident is closed.")
        assert violations(page, DARK_TELEPHONE.width, OTHER_LOOKS[1][2]) == []


def test_held_reports_are_rejected_and_their_tokens_stay_live(browser: Browser, context: Context) -> None:
    with console(browser, context) as page:
        page.goto("/console/decisions")
        page.get_by_role("link", name="Reject 9…").click()
        page.get_by_label("Why").fill("a mistake of the reporter")
        page.get_by_role("button", name="Reject 9 reports").click()
        expect(page.get_by_role(DONE)).to_contain_text("None of the held tokens was disabled.")
    with context.database.read() as session:
        states = select(Report.state, Report.decision).distinct()
        assert session.execute(states).all() == [(ReportState.REJECTED, Decision.REJECTED)]


def press(page: Page, *keys: str) -> None:
    page.wait_for_load_state()  # until then, the page's script ignores keys
    for key in keys:
        page.keyboard.press(key)


def tab_to(page: Page, label: str) -> None:
    """Press Tab until the control with this text or label has the focus."""
    script = "() => (document.activeElement.labels?.[0] ?? document.activeElement).innerText ?? ''"
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate(script).strip().startswith(label):
            return
    raise AssertionError(f"Tab never came to {label}")


def test_the_keyboard_alone_signs_in_finds_an_incident_and_closes_it(browser: Browser, context: Context) -> None:
    with client_of(context) as client, window(browser, DESKTOP, str(client.base_url)) as opened:
        page = opened.new_page()
        page.goto("/console/sign-in")
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.type("ana")
        tab_to(page, "Password")
        page.keyboard.type(PASSWORD)
        expect(page.get_by_label("Password")).to_have_value(PASSWORD)
        press(page, "Enter")
        page.wait_for_url(re.compile("/console/$"))
        press(page, "Tab")
        expect(page.get_by_text("Skip to content")).to_be_focused()
        press(page, "Enter", "g", "i")
        page.wait_for_url(re.compile("/console/incidents$"))
        press(page, "j", "j", "k", "Enter")
        page.wait_for_url(re.compile("/console/incidents/[0-9a-f-]{36}$"))
        tab_to(page, "Go to what can be done")
        press(page, "Enter")
        tab_to(page, "Close the incident…")
        press(page, "Enter")
        tab_to(page, "Why")
        page.keyboard.type("without a mouse")
        press(page, "Enter")
        expect(page.get_by_role(DONE)).to_contain_text("The incident is closed.")


def new_incident(database: Database) -> str:
    """Store a new incident with a disabled token. Return its id."""
    one = uuid.uuid4()
    with database.write() as session:
        values = {"hint": "r8_new…0001", "token_id": "1", "token_name": "new", "account_name": "ana"}
        reason = {"cause": Cause.PUBLIC_REPOSITORY, "action": Decision.DISABLED, "state": IncidentState.OPEN}
        at = datetime.now(UTC)
        session.add(Incident(id=one, digest=uuid.uuid4().hex * 2, detected_at=at, disabled_at=at, **values, **reason))
    return str(one)


def test_the_first_page_shows_new_incidents_and_says_if_it_cannot(browser: Browser, context: Context) -> None:
    with client_of(context) as client, window(browser, DESKTOP, str(client.base_url)) as opened:
        cookie = signed_in(client, context, "vera").cookies["r8scan"]
        opened.add_cookies([{"name": "r8scan", "value": cookie, "url": str(client.base_url)}])
        with context.database.write() as session:
            session.execute(update(SourceState).values(error="http_500"))
        page = opened.new_page()
        page.clock.install()
        page.goto("/console/")
        page.locator("#all-source_error summary").click()
        page.evaluate("document.documentElement.dataset.same = 'yes'")
        one = new_incident(context.database)
        page.clock.fast_forward(11_000)
        expect(page.locator(f"#i-{one}")).to_be_visible()
        expect(page.locator("#stale")).to_be_hidden()
        expect(page.locator("details[open]"), "what was unfolded stays so").to_contain_text("http_500")
        page.route("**/console/", lambda route: route.abort())
        page.clock.fast_forward(11_000)
        expect(page.get_by_role("alert")).to_contain_text("cannot be refreshed")
        assert page.evaluate("document.documentElement.dataset.same") == "yes"


def test_a_person_signs_in_with_the_identity_provider(browser: Browser, own_database: Database, issuer: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = context_of(own_database, **values_of(issuer, console_url=f"http://127.0.0.1:{port}"))
    with client_of(context, port=port) as client, window(browser, DESKTOP, str(client.base_url)) as opened:
        page = opened.new_page()
        page.add_init_script(path=AXE)
        page.route("**/*", lambda route: route.continue_() if "//127.0.0.1" in route.request.url else route.abort())
        page.goto("/console/jobs?state=failed")
        assert violations(page, DESKTOP.width) == []
        page.get_by_role("link", name="Sign in with 127.0.0.1").click()
        page.get_by_role("button", name="otto").click()
        expect(page.get_by_role("alert")).to_contain_text("no group of yours")
        page.get_by_role("link", name="Sign in with").click()
        page.get_by_role("button", name="ana").first.click()
        expect(page).to_have_url(re.compile("/console/"))
        expect(page.locator(".me")).to_contain_text("oidc:ana@example.com · operator")
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(re.compile("/console/sign-in"))
    context.close()

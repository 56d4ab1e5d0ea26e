"""Tests of the console in a real browser, also for accessibility."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from scanner.records.models import Incident
from scanner.records.states import Decision, IncidentState
from scanner.response import operator_actions
from tests.browser import LOOKS, chromium, window
from tests.console_pictures import pages
from tests.workers.web.console.conftest import PASSWORD, client_of, newest_incident
from tests.workers.web.console.steps import AXE, OTHER_LOOKS, needs_chromium, sign_in, violations
from workers.context import Context

LAYOUTS = ("now", "incidents", "incident", "decisions", "mail", "sign-in")
"""One page of each layout. Only these pages are also checked with other window widths and colours, because all other
pages consist of the same parts.
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@needs_chromium
def test_an_operator_signs_in_filters_opens_acts_and_finds_it_in_the_audit(browser: Browser, context: Context) -> None:
    with client_of(context) as client, window(browser, LOOKS[0], str(client.base_url)) as opened:
        page = opened.new_page()
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda err: refused.append(str(err)))
        page.goto("/console/incidents?state=open")
        expect(page).to_have_url(re.compile("/console/sign-in"))
        page.get_by_label("Name").fill("ana")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(re.compile(r"/console/incidents\?state=open"))
        page.wait_for_load_state()  # until then, the page's script ignores keys
        page.keyboard.press("/")
        page.keyboard.type("acme-weather")
        page.locator("[name=action]").select_option("disabled")
        page.get_by_role("button", name="Filter").click()
        expect(page).to_have_url(re.compile("action=disabled&q=acme-weather"))
        page.wait_for_load_state()
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("/console/incidents/[0-9a-f-]{36}$"))
        page.get_by_text("Close the incident…").click()
        act = page.locator("details[open]")
        act.get_by_label("Why").fill("closed in the browser")
        act.get_by_role("button", name="Close it").click()
        expect(page.get_by_role("status")).to_contain_text("The incident is closed.")
        page.get_by_role("link", name="Audit").click()
        row = page.get_by_role("row").filter(has_text="closed in the browser")
        expect(row).to_contain_text("console:ana")
        page.get_by_role("button", name="Verify now").click()
        expect(page.locator("#main")).to_contain_text("entries are as they were written")
        assert refused == []


@needs_chromium
def test_a_page_shows_new_rows_without_being_loaded_again(browser: Browser, context: Context) -> None:
    one = newest_incident(context, action=Decision.DISABLED, state=IncidentState.OPEN)
    with client_of(context) as client, window(browser, LOOKS[0], str(client.base_url)) as opened:
        page = opened.new_page()
        sign_in(page)
        page.clock.install()
        page.goto("/console/incidents")
        page.evaluate("document.documentElement.dataset.same = 'yes'")
        with context.database.write() as session:
            incident = session.get(Incident, one)
            assert incident is not None
            operator_actions.close(session, incident, who="operator:test", reason="a sample")
        page.clock.fast_forward(16_000)
        row = page.get_by_role("row").filter(has=page.locator(f"#i-{one}"))
        expect(row).to_contain_text("closed")
        assert page.evaluate("document.documentElement.dataset.same") == "yes"


@needs_chromium
def test_no_page_has_an_accessibility_violation_or_is_wider_than_its_window(browser: Browser, context: Context) -> None:
    found: list[tuple[str, int, str, str]] = []
    with client_of(context) as client, window(browser, LOOKS[0], str(client.base_url)) as opened:
        page = opened.new_page()
        sign_in(page)
        page.add_init_script(path=AXE)
        for name, path in [*pages(context), ("sign-in", "/console/sign-in")]:
            answer = page.goto(path, wait_until="domcontentloaded")
            assert answer is not None
            assert answer.status == (404 if name == "nothing" else 200), name
            for width, is_dark, rules in ((1280, False, None), *(OTHER_LOOKS if name in LAYOUTS else ())):
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme="dark" if is_dark else "light")
                found += [(name, width, *one) for one in violations(page, width, rules)]
    assert found == []

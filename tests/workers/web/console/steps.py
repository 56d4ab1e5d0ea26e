"""Steps of the browser tests: sign in, act on an incident, and check a page's accessibility."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import LOOKS, Look, chromium_path, window
from tests.workers.web.console.conftest import PASSWORD, client_of, signed_in
from workers.context import Context

AXE = Path(__file__).parents[3] / "data" / "axe" / "axe.min.js"
OTHER_LOOKS = (
    # These windows show the same HTML in other colours or another width, so check only the rules that depend on them.
    (1280, True, ["color-contrast"]),
    (390, False, ["color-contrast", "target-size", "scrollable-region-focusable"]),
)
"""Other widths and colours of the window. Each item has the width in pixels, whether to use dark mode, and the
accessibility rules of axe to check.
"""
expect.set_options(timeout=30_000)  # wait up to 30 seconds, because the machine may be busy
needs_chromium = pytest.mark.skipif(
    chromium_path() is None, reason="the browser tests were left out: there is no Chromium on the PATH"
)


def sign_in(page: Page) -> None:
    page.goto("/console/sign-in")
    page.get_by_label("Name").fill("ana")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile("/console/$"))


@contextmanager
def console(browser: Browser, context: Context, look: Look = LOOKS[0], name: str = "ana") -> Iterator[Page]:
    """Open the console in a browser, sign in as `name`, and yield the page. Browser errors fail the test."""
    with client_of(context) as client, window(browser, look, str(client.base_url)) as opened:
        cookie = signed_in(client, context, name).cookies["r8scan"]
        opened.add_cookies([{"name": "r8scan", "value": cookie, "url": str(client.base_url)}])
        page = opened.new_page()
        page.add_init_script(path=AXE)
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda err: errors.append(str(err)))
        yield page
        assert errors == []


def act(page: Page, name: str, **fields: str) -> None:
    """On an incident's page, fill in the form of an action and submit it. `fields` has the values by name."""
    form = page.locator(f"details:has(form[action$='/{name}'])")
    form.locator("summary").click()
    for field, value in fields.items():
        form.locator(f"[name={field}]").fill(value)
    form.get_by_role("button").click()


def violations(page: Page, width: int, rules: list[str] | None = None) -> list[tuple[str, str]]:
    """Return the accessibility rules that the page breaks, each with the first element that breaks it.

    A page that is wider than `width` pixels also counts as broken.
    """
    page.wait_for_load_state()  # after a click, the new page may still be empty
    found: list[tuple[str, str]] = []
    if page.evaluate("document.documentElement.scrollWidth") > width:
        found.append(("is wider than its window", ""))
    options = {"resultTypes": ["violations"], "iframes": False, **({"runOnly": rules} if rules else {})}
    result = page.evaluate("options => axe.run(document, options)", options)
    return found + [(one["id"], one["nodes"][0]["html"]) for one in result["violations"]]

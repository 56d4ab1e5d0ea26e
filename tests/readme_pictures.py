"""Takes the README's pictures of the console and of a mail to an owner."""

from __future__ import annotations

import socket
import sys
import tempfile
from email.message import EmailMessage
from functools import partial
from pathlib import Path

from playwright.sync_api import Browser
from sqlalchemy import func, select

from scanner.records.models import Incident
from tests.browser import LOOKS, Look, chromium, chromium_path, window
from workers.sandbox import world
from workers.sandbox.leaks import Leaks
from workers.sandbox.world import World, until
from workers.web.console import users

FOLDER = Path(__file__).parents[1] / "docs" / "images"
PASSWORD = "correct horse battery staple"
LEAKED = ("push", "protected", "removed", "archive", "comment", "push", "issue", "push")
MAIL_LOOK = Look("mail", 680, 1000)
READY_SECONDS = 120.0


def main() -> int:
    """Take both pictures. Return 1 if there is no browser."""
    if chromium_path() is None:
        print("make look: needs Chromium (or Chrome) on the PATH, none found", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="r8readme-") as folder:
        settings = {"web_port": str(port), "console_password_hash": users.hash_password(PASSWORD)}
        with world.running(Path(folder), github_token="sandbox", **settings) as surroundings:
            log = Path(folder) / "serve.log"
            with surroundings.service(), surroundings.service(command="serve", log=log), chromium() as browser:
                _cause_leaks(surroundings)
                _take_console(browser, f"http://127.0.0.1:{port}")
                _take_mail(browser, _newest_to_an_owner(surroundings))
    print(f"pictures in {FOLDER}")
    return 0


def _cause_leaks(surroundings: World) -> None:
    """Cause one leak after another, and wait for each leak's incident and mail."""
    leaks = Leaks(surroundings)
    for number, kind in enumerate(LEAKED, start=1):
        leaks.cause(kind)
        until(partial(_has_incidents, surroundings, number), READY_SECONDS)
    # Each leak causes one mail, either to the owner of the token or to the operator.
    until(lambda: len(surroundings.mailbox.messages) >= len(LEAKED), READY_SECONDS)


def _newest_to_an_owner(surroundings: World) -> EmailMessage:
    return [one for one in surroundings.mailbox.messages if world.OPERATOR not in one["To"]][-1]


def _has_incidents(surroundings: World, number: int) -> bool:
    with surroundings.database.read() as session:
        return session.execute(select(func.count()).select_from(Incident)).scalar_one() >= number


def _take_console(browser: Browser, address: str) -> None:
    opened = window(browser, LOOKS[0], address)
    page = opened.new_page()
    page.goto("/console/sign-in")
    page.get_by_label("Name").fill(users.SETTINGS_USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/")
    page.get_by_text("No problem is known").wait_for(timeout=1000 * READY_SECONDS)
    page.screenshot(path=FOLDER / "console.png")
    opened.close()


def _take_mail(browser: Browser, message: EmailMessage) -> None:
    html = message.get_body(("html",))
    assert html is not None
    opened = window(browser, MAIL_LOOK, "http://127.0.0.1")
    page = opened.new_page()
    page.set_content(html.get_content())
    page.screenshot(path=FOLDER / "mail.png")
    opened.close()


if __name__ == "__main__":
    sys.exit(main())

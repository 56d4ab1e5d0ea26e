"""Takes pictures of every page of the console, for `make look`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import select

from scanner.records.database import Database
from scanner.records.models import Incident, Notification
from scanner.records.schema import upgrade
from scanner.records.states import Decision, NotificationState, Role
from scanner.settings import load_settings
from tests.browser import LOOKS, chromium, chromium_path, window
from tests.workers.web.console.conftest import PASSWORD, client_of
from tests.workers.web.console.filled import fill
from workers.context import Context
from workers.web.console import users

FOLDER = Path(__file__).parent / "pictures"


def main() -> int:
    """Take all pictures. Return 1 if a page is too wide or has an unexpected status."""
    if chromium_path() is None:
        print("make look: needs Chromium (or Chrome) on the PATH, none found", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="r8look-") as folder:
        context = _context(Path(folder))
        with client_of(context) as client, chromium() as browser:
            for look in LOOKS:
                opened = window(browser, look, str(client.base_url))
                page = opened.new_page()
                page.goto("/console/sign-in")
                page.screenshot(path=FOLDER / f"console-sign-in-{look.name}.png")
                page.fill("[name=name]", "ana")
                page.fill("[name=password]", PASSWORD)
                page.click("button.main")
                for name, path in (*pages(context), *_variants(context)):
                    answer = page.goto(path)
                    assert answer is not None
                    if answer.status != (404 if name == "nothing" else 200):
                        print(f"{name}: the page answered {answer.status}", file=sys.stderr)
                        wrong += 1
                    width = int(page.evaluate("document.documentElement.scrollWidth"))
                    if width > look.width:
                        print(f"{name}: {width} pixels wide in a window of {look.width}", file=sys.stderr)
                        wrong += 1
                    page.screenshot(path=FOLDER / f"console-{name}-{look.name}.png", full_page=True)
                opened.close()
        context.close()
    print(f"pictures in {FOLDER}")
    return 1 if wrong else 0


def _context(folder: Path) -> Context:
    database = Database(f"sqlite:///{folder}/state/r8scan.db")
    upgrade(database)
    fill(database, incidents=60)
    with database.write() as session:
        users.add(session, "ana", users.hash_password(PASSWORD), Role.OPERATOR, who="operator:look")
    settings = load_settings(
        read_dotenv=False,
        state_dir=folder / "state",
        database_url=SecretStr(f"sqlite:///{folder}/state/r8scan.db"),
        smtp_url=SecretStr("smtp://mail.vendor.example:587"),
        email_from="Security <security@vendor.example>",
        operator_email="security@vendor.example",
    )
    context = Context(settings)
    context.__dict__["database"] = database
    return context


def pages(context: Context) -> Iterator[tuple[str, str]]:
    """Yield the path of every page, with a short name for its picture."""
    yield "now", "/console/"
    yield "incidents", "/console/incidents"
    with context.database.read() as session:
        newest = select(Incident.id).order_by(Incident.detected_at.desc())
        yield "incident", f"/console/incidents/{session.execute(newest.limit(1)).scalar_one()}"
        # The page of a waiting mail would be nearly empty, so choose a mail that was sent.
        mail = select(Notification.id).where(Notification.state == NotificationState.SENT).limit(1)
        yield "mail", f"/console/mails/{session.execute(mail).scalar_one()}"
    for name in ("decisions", "tokens", "jobs", "outbox", "sources", "audit"):
        yield name, f"/console/{name}"
    yield "accounts", "/console/tokens?show=accounts"
    yield "job", "/console/jobs/4"
    yield "nothing", "/console/nothing"


def _variants(context: Context) -> Iterator[tuple[str, str]]:
    """Yield the name and the URL path of two incident pages: one with hostile names, and one with a protected token."""
    with context.database.read() as session:
        newest = select(Incident.id).order_by(Incident.detected_at.desc())
        hostile = newest.where(Incident.token_name.like("<img%")).limit(1)
        yield "hostile", f"/console/incidents/{session.execute(hostile).scalar_one()}"
        protected = newest.where(Incident.action == Decision.PROTECTED).limit(1)
        yield "protected", f"/console/incidents/{session.execute(protected).scalar_one()}"


if __name__ == "__main__":
    sys.exit(main())

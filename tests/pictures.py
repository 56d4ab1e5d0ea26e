"""Takes pictures of every kind of mail, for `make look`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

from notifications.email.facts import MailFacts
from notifications.email.logo import read_logo
from notifications.email.render import MailIdentity, render_strictly
from notifications.email.samples import samples
from tests.notifications.logos import png

FOLDER = Path(__file__).parent / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOOKS = (("600", 600, False), ("320", 320, False), ("600-dark", 600, True))
TALLEST = 12_000
SECONDS = 60
# Show the mail in a frame, because a browser window cannot be as narrow as a phone.
_MEASURING = """<!doctype html><iframe style="border:0;height:600px;width:{width}px" srcdoc="{html}" onload="
let inner = this.contentDocument.documentElement;
document.documentElement.title = `size ${{inner.scrollWidth}} ${{inner.scrollHeight}}`"></iframe>"""
_SIZE = re.compile(r'title="size (\d+) (\d+)"')
IDENTITY = MailIdentity(
    sender="Replicate Security <security@replicate.example>", support_contact="support@replicate.example"
)
LOGO = read_logo(png(320, 96))


def main() -> int:
    """Take pictures of all mails, or of those named on the command line. Return 1 if one failed."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        print("make look: needs Chromium (or Chrome) on the PATH, none found", file=sys.stderr)
        return 1
    wanted = set(sys.argv[1:])
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="r8look-") as folder:
        for name, facts, identity in _mails():
            if wanted and name not in wanted:
                continue
            page = Path(folder) / f"{name}.html"
            html = render_strictly(facts, identity).html
            html = identity.logo.inlined(html) if identity.logo else html
            for look, width, dark in LOOKS:
                picture = FOLDER / f"{name}-{look}.png"
                problem = _photograph(browser, html, page, picture, width, dark)
                if problem:
                    print(f"make look: {picture.name}: {problem}", file=sys.stderr)
                    return 1
    print(f"pictures in {FOLDER}")
    return 0


def _mails() -> Iterator[tuple[str, MailFacts, MailIdentity]]:
    """Yield the name, the content and the sender of at least one mail of every kind."""
    for name, facts in samples():
        yield name, facts, IDENTITY
        if name == "public-repository":
            yield "logo", facts, replace(IDENTITY, logo=LOGO)
            yield "logo-without-images", facts, replace(IDENTITY, logo=replace(LOGO, content=b""))
            yield "hostile", _hostile(facts), IDENTITY


def _hostile(facts: MailFacts) -> MailFacts:
    token = facts.tokens[0]
    place = replace(
        token.places[0],
        path="very/" * 200 + "<b>deep</b>\u202egnp.exe\n\nDear user, send us your password",
        repository="acme/" + "x" * 300,
        url="https://github.com/" + "y" * 900,
    )
    hostile = replace(token, name="<img src=x onerror=alert(1)>{{ 7 * 7 }}" + "W" * 300, places=(place,))
    return replace(facts, tokens=(hostile,))


def _photograph(browser: str, html: str, page: Path, picture: Path, width: int, dark: bool) -> str:
    """Take a picture of the whole mail. Return an error message, or an empty string."""
    picture.unlink(missing_ok=True)
    try:
        page.write_text(_MEASURING.format(width=width, html=escape(html)), encoding="utf-8")
        measured = _SIZE.search(_browse(browser, page, "--dump-dom", (width, 600), dark))
        if measured is None:
            return "the browser did not measure the page"
        wide, high = int(measured[1]), int(measured[2])
        if wide > width:
            return f"the mail is {wide} pixels wide in a window of {width}"
        page.write_text(html, encoding="utf-8")
        _browse(browser, page, f"--screenshot={picture}", (width, min(high, TALLEST)), dark)
    except subprocess.TimeoutExpired:
        return f"the browser did not finish within {SECONDS} s"
    return "" if picture.exists() else "the browser took no picture"


def _browse(browser: str, page: Path, what: str, window: tuple[int, int], dark: bool) -> str:
    """Open the page in a new browser, and return what the browser prints.

    Args:
        browser: The browser's path.
        page: The page to open.
        what: The browser's option for the task, for example `--dump-dom`.
        window: The width and height of the window in pixels.
        dark: Whether to use dark mode.
    """
    profile = page.parent / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={profile}",
        f"--window-size={window[0]},{window[1]}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        *(what, page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    return done.stdout.decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())

"""Runs the installed Chromium without a window, for tests and pictures of the console."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, BrowserContext, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")


@dataclass(frozen=True, slots=True)
class Look:
    """The appearance of a page: the window's size in pixels, and light or dark mode."""

    name: str
    width: int
    height: int
    is_dark: bool = False


LOOKS = (
    Look("light", 1280, 900),
    Look("dark", 1280, 900, True),
    Look("390", 390, 844),
    Look("390-dark", 390, 844, True),
)


def chromium_path() -> str | None:
    """Return the path of Chromium, or None if it is not on the PATH."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser and yield it. It is closed when the `with` block ends."""
    path = chromium_path()
    assert path is not None, "there is no Chromium on the PATH"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def window(browser: Browser, look: Look, address: str) -> BrowserContext:
    """Open a browser window of this appearance. Paths that its pages open are relative to the URL `address`."""
    return browser.new_context(
        base_url=address,
        viewport={"width": look.width, "height": look.height},
        color_scheme="dark" if look.is_dark else "light",
        is_mobile=look.width < 500,
        reduced_motion="reduce",
    )

"""Formats strings, times, durations, numbers and links for mails."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlsplit

import regex

from scanner.detection import redact
from scanner.permalinks import is_own_page, is_permalink

MAX_NAME_LENGTH = 100
MAX_PATH_LENGTH = 240
MAX_LINK_LENGTH = 1000
"""The maximum length of a URL that becomes a link."""
_MAX_READ = 20_000

TEXT_WIDTH = 74
_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
_COMMAND = regex.compile(r"\br8scan(?: [a-z]{1,20}){1,2}\b")

# Characters that could deceive a reader: for example invisible characters, and those that reverse the direction of the
# text. Two invisible characters that some scripts need are allowed.
_HIDDEN = regex.compile(
    r"(?V1)[\p{Cc}\p{Cs}\p{Co}\p{Zl}\p{Zp}[\p{Cf}--[\u200c\u200d]]\u115f\u1160\u2800\u3164\uffa0]|\p{M}{7,}"
)
_BACKSLASHES = regex.compile(r"\\")
_KINDS_OF_PAGES = frozenset(
    (
        *("file", "file_name", "commit", "tag", "ref_name", "repository_description", "wiki_page", "release"),
        *("issue", "issue_comment", "pull_request", "commit_comment", "review", "review_comment", "discussion"),
        *("gist", "gist_comment"),
    )
)
_NAME = r"/[A-Za-z0-9_-]{1,100}/[A-Za-z0-9._-]{1,100}"
_PAGE_PATH = regex.compile(
    rf"{_NAME}(?:/(?:(?:blob|tree|commit|wiki|releases/tag)/.+|wiki|(?:issues|pull|discussions)/[0-9]{{1,19}}(?:/files)?))?"
)
_GIST_PATH = regex.compile(r"/(?:[A-Za-z0-9_-]{1,100}/)?[0-9a-f]{1,64}(?:/[0-9a-f]{40,64})?")
_FRAGMENT = regex.compile(r"[A-Za-z0-9_-]{0,100}")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))

KIND_WORDS: Mapping[str, str] = {
    "file": "File",
    "file_name": "Name of a file",
    "commit": "Commit message",
    "tag": "Tag message",
    "ref_name": "Name of a branch or tag",
    "repository_description": "Description of the repository",
    "issue": "Issue",
    "issue_comment": "Comment on an issue",
    "pull_request": "Pull request",
    "commit_comment": "Comment on a commit",
    "review": "Review of a pull request",
    "review_comment": "Review comment on a pull request",
    "discussion": "Discussion",
    "release": "Release notes",
    "wiki_page": "Wiki page",
    "gist": "Gist",
    "gist_comment": "Comment on a gist",
    "package": "Published package",
    "submission": "Submitted to GitHub by a person",
}


def clean(value: str, longest: int = MAX_NAME_LENGTH) -> str:
    """Make a string safe to show: one line without hidden characters and tokens.

    `longest` is the maximum length of the result, in characters.
    """
    visible = " ".join(_HIDDEN.sub("\N{REPLACEMENT CHARACTER}", value[:_MAX_READ]).split())
    return shorten(redact(visible), longest)


def shorten(value: str, longest: int) -> str:
    """Return the value with at most `longest` characters. In a longer value, `…` replaces the middle."""
    if len(value) <= longest:
        return value
    tail = longest // 2
    return f"{value[: longest - tail - 1]}…{value[-tail:]}"


def safe_link(url: str, web_url: str, kind: str) -> str | None:
    """Return the percent-encoded URL of a place where a token was found, or None if a mail must not link to it.

    Args:
        url: The URL of the place.
        web_url: The web address of the watched GitHub.
        kind: The kind of the place.
    """
    if len(url) > MAX_LINK_LENGTH or _BACKSLASHES.search(url):
        return None
    try:
        address, _, fragment = url.partition("#")
        parts = urlsplit(address)
        # Percent-encode every character at which a mail program could end the link too early.
        path = quote(parts.path, safe="/%-._~+=", errors="replace")
    except ValueError:
        return None
    link = f"{parts.scheme}://{parts.netloc}{path}" + (f"#{fragment}" if fragment else "")
    if parts.query or len(link) > MAX_LINK_LENGTH or redact(link) != link:
        return None
    # Pages whose content can change, such as issues, are linked only if r8scan itself found the token there. The URL in
    # a report may come from an attacker.
    is_page = kind in _KINDS_OF_PAGES and _is_repository_page(web_url, link)
    return link if is_page or is_permalink(web_url, link) else None


def _is_repository_page(web_url: str, link: str) -> bool:
    if not is_own_page(web_url, link):
        return False
    parts = urlsplit(link)
    if any(unquote(segment) in (".", "..") for segment in parts.path.split("/")):
        return False
    pattern = _GIST_PATH if parts.netloc != urlsplit(web_url).netloc else _PAGE_PATH
    return bool(pattern.fullmatch(parts.path)) and bool(_FRAGMENT.fullmatch(parts.fragment))


def kind_words(kind: str) -> str:
    """Return what a mail calls this kind of place, such as "Commit message"."""
    return KIND_WORDS.get(kind, "Public place")


def time_words(moment: datetime) -> str:
    """Return a time in UTC, as in `3 November 2026, 14:02:11 UTC`."""
    utc = moment.astimezone(UTC)
    return f"{utc.day} {_MONTHS[utc.month - 1]} {utc.year}, {utc:%H:%M:%S} UTC"


def duration_words(seconds: float) -> str:
    """Return a duration in its two largest units, as in `2 days 4 hours`, `41 seconds` or `less than a second`."""
    left = int(seconds)
    if left < 1:
        return "less than a second"
    parts: list[str] = []
    for name, size in _UNITS:
        count, rest = divmod(left, size)
        if count:
            parts.append(f"{count} {name}" + ("" if count == 1 else "s"))
            left = rest
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def number_words(count: int) -> str:
    """Return a number with commas between thousands, as in `2,000`."""
    return f"{count:,}"


def wrap(text: str, first: str = "", rest: str = "") -> str:
    """Break the text into lines of at most TEXT_WIDTH characters, but not inside a word or a command of r8scan.

    Args:
        text: One paragraph.
        first: The text before the first line.
        rest: The text before every other line.
    """
    # Keep each command on one line, so that it is easy to copy. `fill` does not break lines at no-break spaces.
    kept = _COMMAND.sub(lambda found: found[0].replace(" ", _NO_BREAK_SPACE), text)
    filled = textwrap.fill(
        kept,
        TEXT_WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace(_NO_BREAK_SPACE, " ")

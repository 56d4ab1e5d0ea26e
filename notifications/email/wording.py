"""Values as words a person reads: hostile strings made harmless, times, durations. Knows no template."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import regex

from scanner.detection import redact

LONGEST_NAME = 100
LONGEST_PATH = 240
LONGEST_LINK = 1000
"""Characters of an address that is still a link; a longer one is shown shortened, as text."""
_LONGEST_READ = 20_000

TEXT_WIDTH = 74

# Controls, surrogates, private use, line and paragraph separators; everything of format (bidirectional overrides, zero
# width, tags) but the two joiners that scripts need; letters that show nothing; piles of combining marks.
_HIDDEN = regex.compile(
    r"(?V1)[\p{Cc}\p{Cs}\p{Co}\p{Zl}\p{Zp}[\p{Cf}--[\u200c\u200d]]\u115f\u1160\u2800\u3164\uffa0]|\p{M}{7,}"
)
_LINK = regex.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?([/?#]|$)")
_KEPT_IN_LINKS = "%/:?#[]@!$&'()*+,;=-._~"
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
}


def clean(value: str, longest: int = LONGEST_NAME) -> str:
    """One line of visible text, at most `longest` characters, whatever `value` was; what was hidden shows as �."""
    visible = " ".join(_HIDDEN.sub("\N{REPLACEMENT CHARACTER}", value[:_LONGEST_READ]).split())
    return shorten(redact(visible), longest)


def shorten(value: str, longest: int) -> str:
    """`value` with its middle left out: of a path, both ends say where it is."""
    if len(value) <= longest:
        return value
    tail = longest // 2
    return f"{value[: longest - tail - 1]}…{value[-tail:]}"


def safe_link(url: str) -> str | None:
    """The address, percent-encoded, if it may be a link: http(s), a plain host, no credentials, not too long."""
    if len(url) > LONGEST_LINK or not _LINK.match(url):
        return None
    link = quote(url, safe=_KEPT_IN_LINKS, errors="replace")
    try:
        parts = urlsplit(link)
        plain = parts.username is None and (parts.port or 1) > 0
    except ValueError:
        return None
    return link if plain and len(link) <= LONGEST_LINK and redact(link) == link else None


def kind_words(kind: str) -> str:
    """What kind of public place it is."""
    return KIND_WORDS.get(kind, "Public place")


def time_words(moment: datetime) -> str:
    """`3 November 2026, 14:02:11 UTC`."""
    utc = moment.astimezone(UTC)
    return f"{utc.day} {_MONTHS[utc.month - 1]} {utc.year}, {utc:%H:%M:%S} UTC"


def duration_words(seconds: float) -> str:
    """The two largest units of a length of time: `2 days 4 hours`, `41 seconds`; `less than a second` for nothing."""
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
    """`2,000`."""
    return f"{count:,}"


def wrap(text: str, first: str = "", rest: str = "") -> str:
    """`text` in lines of at most TEXT_WIDTH characters that begin with `first`, then `rest`; long words stay whole."""
    return textwrap.fill(
        text,
        TEXT_WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )

"""The console's templates, and functions that convert values to text for pages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from notifications.email.wording import KIND_WORDS, clean
from scanner.detection.digests import masked
from scanner.detection.patterns.token_formats import is_hint, prefixes
from scanner.settings import Settings

FOLDER = Path(__file__).parent
MAX_SHOWN = 500
"""The maximum number of characters of a value on a page. The middle of a longer value is omitted."""
STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PLAIN = {
    "frozen": "in delivery",
    "no_overlap": "that left the list between two polls",
    "texts_no_overlap": "texts that left the list between two polls",
    "windows_thin": "search windows with far fewer results than usual",
    "windows": "search windows",
    "later_looks": "search windows that were searched again",
}
"""Texts for states and counters whose names people would not understand."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d")
_PLURAL = re.compile(r"ies$|(?<=ch|sh|ss)es$|(?<=x)es$|(?<=[^s])s$")
"""The ending of a noun in the plural."""
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@cache
def environment() -> Environment:
    """Return the Jinja environment, which applies `visible` to every printed value."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "ago": ago,
        "moment": moment,
        "span": span,
        "number": number,
        "words": words,
        "kind": lambda value: KIND_WORDS.get(value, words(value)),
        "query": query,
        "evidence": evidence,
        "way": lambda value: {"texts": "texts of public events"}.get(value, words(value)),
        "counted": counted,
        "masked": lambda one: masked(one.hint, one.digest),
        "short_id": lambda value: str(value)[:8],
    }
    templates.globals |= {"static": static_address}
    return templates


def prepare() -> None:
    """Compile all templates, so that the first pages are not slow."""
    for name in environment().list_templates(extensions=("html",)):
        environment().get_template(name)


def render(name: str, values: Mapping[str, Any]) -> str:
    """Render the template `name` with these values as HTML."""
    return environment().get_template(name).render(values)


def visible(value: Any) -> Any:
    """Make a value safe to print in a page: redact tokens, replace hidden characters, and limit the length."""
    if value is None:
        return ""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    is_ordinary = value.isascii() and value.isprintable() and len(value) <= MAX_SHOWN
    if is_ordinary and not any(prefix in value for prefix in prefixes()):
        return value
    # Do not call `clean` for hints, which are on nearly every page: it would load patterns that need 10 MB.
    return value if is_hint(value) else clean(value, MAX_SHOWN)


def moment(at: datetime | None) -> Markup:
    """Return a time in UTC as HTML."""
    if at is None:
        return Markup('<span class="none">–</span>')
    return Markup('<time datetime="{0}">{1}</time>').format(_iso(at), f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")


def ago(at: datetime | None, now: datetime) -> Markup:
    """Return HTML such as "5 min ago" or "in 5 min", with the exact time as a tooltip."""
    if at is None:
        return Markup('<span class="none">–</span>')
    seconds = (now - at).total_seconds()
    size = span(abs(seconds)) if abs(seconds) >= 10 else f"{abs(seconds):.0f} s"
    text = f"{size} ago" if seconds >= 0 else f"in {size}"
    exact = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{0}" title="{1}">{2}</time>').format(_iso(at), exact, text)


def evidence(value: Any, now: datetime) -> Any:
    """Return a value of an audit entry as pages show it, such as "yes" for True."""
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return ago(datetime.fromisoformat(value), now)
        except ValueError:
            return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{words(key)} {one}" for key, one in value.items() if one is not None)
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return str(value)


def span(seconds: float | None) -> str:
    """Return a duration as text, such as "12 h" or "2 h 5 min"."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for place, (size, unit) in enumerate(_UNITS):
        if whole >= size:
            rest = whole % size
            if place == len(_UNITS) - 1 or whole >= 10 * size:
                return f"{whole // size} {unit}"
            smaller, smaller_unit = _UNITS[place + 1]
            return f"{whole // size} {unit}" + (f" {rest // smaller} {smaller_unit}" if rest >= smaller else "")
    return "0 s"


def number(value: float | None) -> str:
    """Return a rounded number as text, with separators between thousands."""
    # Return Markup: in plain text, `visible` would replace the narrow spaces, and lines could break there.
    text = "–" if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return Markup("{0}").format(text)


def counted(value: float, name: str) -> str:
    """Return a number with its noun, such as "2 search windows" or "1 search window"."""
    parts = words(name).split(" ")
    if value == 1:
        place = next((at for at, part in enumerate(parts) if _PLURAL.search(part)), 0)
        parts[place] = _PLURAL.sub(lambda ending: "y" if ending[0] == "ies" else "", parts[place])
    return Markup("{0} {1}").format(number(value), visible(" ".join(parts)))


def words(value: Any) -> str:
    """Return the name of a state or counter as words for people."""
    return PLAIN.get(str(value), str(value).replace("_", " "))


def query(values: Mapping[str, Any], **changes: Any) -> str:
    """Return `values` as the query string of a URL, without empty values. `changes` override them."""
    return urlencode({key: value for key, value in {**values, **changes}.items() if value not in (None, "")})


def link_of(url: str, settings: Settings) -> str | None:
    """Return the URL if it is on the watched GitHub server, otherwise None."""
    if len(url) > 2000 or not url.isascii() or not url.isprintable():
        return None
    parts, github = urlsplit(url), urlsplit(settings.github_web_url)
    hosts = {github.netloc, f"gist.{github.netloc}"}
    return url if parts.scheme == github.scheme and parts.netloc in hosts else None


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """Return the content and the media type of each static file, by name."""
    return {
        path.name: (path.read_bytes(), STATIC_TYPES[path.suffix])
        for path in sorted((FOLDER / "static").iterdir())
        if path.suffix in STATIC_TYPES
    }


@cache
def static_version() -> str:
    """Return a hash of all static files. It is in their URLs, so that browsers may cache the files forever."""
    digest = hashlib.sha256()
    for name, (content, _) in static_files().items():
        digest.update(name.encode() + content)
    return digest.hexdigest()[:16]


def static_address(name: str) -> str:
    """Return the URL of a static file. Raise KeyError for an unknown name."""
    if name not in static_files():
        raise KeyError(name)
    return f"/console/static/{static_version()}/{name}"


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


__all__ = ["ago", "environment", "escape", "link_of", "moment", "render", "span", "static_address", "static_files"]

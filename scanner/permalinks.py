"""Recognizes URLs of the watched GitHub, and permalinks among them."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

MAX_URL_LENGTH = 4096
_LINES = re.compile(r"L[0-9]{1,9}(?:C[0-9]{1,9})?(?:-L[0-9]{1,9}(?:C[0-9]{1,9})?)?")
_COMMIT = r"[0-9a-f]{40}(?:[0-9a-f]{24})?"
_CONTENT_PATH = re.compile(rf"/[A-Za-z0-9_-]{{1,100}}/[A-Za-z0-9._-]{{1,100}}/(?:blob/{_COMMIT}/.+|commit/{_COMMIT})")
_GIST_PATH = re.compile(rf"/(?:[A-Za-z0-9_-]{{1,100}}/)?[0-9a-f]{{1,64}}(?:/{_COMMIT})?")


def is_own_page(web_url: str, url: object) -> bool:
    """Return whether `url` is a page of the GitHub at `web_url` or of its gists."""
    if not isinstance(url, str) or len(url) > MAX_URL_LENGTH or not url.isprintable():
        return False
    try:
        web, other = urlsplit(web_url), urlsplit(url)
    except ValueError:  # a host with an unclosed bracket, such as `https://[`
        return False
    return other.scheme == web.scheme and other.netloc in (web.netloc, f"gist.{web.netloc}")


def is_permalink(web_url: str, url: str) -> bool:
    """Return whether `url` is the permalink of a commit, a gist, a file at a commit, or lines of such a file.

    The content at a permalink cannot be changed later.
    """
    if not is_own_page(web_url, url) or "?" in url or "\\" in url:
        return False
    parts = urlsplit(url)
    if any(unquote(segment) in (".", "..") for segment in parts.path.split("/")):
        return False
    if parts.fragment and not _LINES.fullmatch(parts.fragment):
        return False
    is_gist = parts.netloc == f"gist.{urlsplit(web_url).netloc}"
    return bool((_GIST_PATH if is_gist else _CONTENT_PATH).fullmatch(parts.path))

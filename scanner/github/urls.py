"""Builds addresses of pages and files on GitHub, and checks repository names."""

from __future__ import annotations

import re
from urllib.parse import quote

from scanner.permalinks import is_own_page as is_own_page

_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9_-])?/[A-Za-z0-9._-]{1,100}")


def is_repository_name(name: str) -> bool:
    """Return whether `name` is a valid "owner/name", which is safe in a URL."""
    return bool(_REPOSITORY.fullmatch(name)) and name.partition("/")[2] not in (".", "..")


def git_url(web_url: str, repository: str) -> str:
    """Return the address from which git fetches a repository.

    Raises:
        ValueError: The repository's name is not valid.
    """
    return f"{web_url}/{_checked(repository)}.git"


def blob_url(web_url: str, repository: str, commit: str, path: str, line: int = 0) -> str:
    """Return the permalink of a file at a commit, or of a line in the file. Line 0 stands for the whole file."""
    return at_line(f"{web_url}/{_checked(repository)}/blob/{quote(commit, safe='')}/{_quoted(path)}", line)


def at_line(url: str, line: int) -> str:
    """Return the link to a line of the file at `url`. For line 0, return `url` unchanged."""
    return f"{url}#L{line}" if line > 0 else url


def commit_url(web_url: str, repository: str, commit: str) -> str:
    """Return the permalink of a commit."""
    return f"{web_url}/{_checked(repository)}/commit/{quote(commit, safe='')}"


def tag_url(web_url: str, repository: str, tag: str) -> str:
    """Return the address of a tag's page."""
    return f"{web_url}/{_checked(repository)}/releases/tag/{_quoted(tag)}"


def _quoted(path: str) -> str:
    return quote(path.encode("utf-8", "surrogateescape"), safe="/")


def _checked(repository: str) -> str:
    if not is_repository_name(repository):
        raise ValueError("not a repository's name")
    return repository

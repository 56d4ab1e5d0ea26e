"""The content that a push added, read by the REST API. It is used if the git server answers with an error.

What the API does not show is counted as unread.

GitHub shows at most 300 files, on the first page only, and 250 commits. It shows no patch for large and binary files:
https://docs.github.com/rest/commits/commits#compare-two-commits
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from scanner.github.addresses import is_object_id
from scanner.github.client import GitHub, get_json
from scanner.github.urls import is_repository_name

MAX_FILES = 300
MAX_COMMITS = 250
MAX_SINGLE = 20
"""At most this many commits are read one by one if GitHub cannot compare. Each costs a request."""

_HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")


@dataclass(frozen=True, slots=True)
class ChangedText:
    """The new side of a file's patch. `lines[i]` is the number, in the file, of the i-th line of `text`."""

    path: str
    text: str
    lines: tuple[int, ...]
    commit: str


@dataclass(slots=True)
class Comparison:
    """File texts, commit messages as (id, text), and counts of what GitHub did not show, by reason."""

    files: list[ChangedText] = field(default_factory=list)
    messages: list[tuple[str, str]] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


def compare(github: GitHub, repository: str, before: str, head: str) -> Comparison:
    """Return what is new in `head` since `before`. Without `before`, return the single commit. Raises GitHubError."""
    found = Comparison()
    if not before.strip("0"):
        _read_commit(github, repository, head, found)
        return found
    _, value = get_json(github, f"{_address(github, repository)}/compare/{before}...{head}", expected=dict)
    _add_files(found, value, head)
    for item in _list(value.get("commits")):
        _add_message(found, item)
    total = value.get("total_commits")
    if isinstance(total, int) and total > len(found.messages):
        found.unread["commits_over_limit"] += total - len(found.messages)
    # A comparison shows only the two ends. It omits content that one commit added and a later one removed.
    found.unread["between_commits"] += len(found.messages) > 1
    found.unread = +found.unread
    return found


def read_singly(github: GitHub, repository: str, before: str, head: str) -> Comparison:
    """Return what is new in `head` since `before`, by reading one commit after the other. Raises GitHubError.

    It is used if GitHub cannot compare the two. It follows only first parents. GitHub shows a merge against its first
    parent, so the merge contains what came from its other parents.
    """
    found = Comparison()
    sha: str | None = head
    for _ in range(MAX_SINGLE):
        if sha is None or sha == before:
            break
        sha = _read_commit(github, repository, sha, found)
    found.unread["commits_over_limit"] += sha not in (None, before)
    found.unread = +found.unread
    return found


def _read_commit(github: GitHub, repository: str, sha: str, found: Comparison) -> str | None:
    """Add one commit to `found`. Return the id of its first parent, or None for a root commit."""
    _, value = get_json(github, f"{_address(github, repository)}/commits/{sha}", expected=dict)
    _add_files(found, value, sha)
    _add_message(found, value)
    parent = next(iter(_list(value.get("parents"))), {}).get("sha")
    return parent if isinstance(parent, str) and is_object_id(parent) else None


def _address(github: GitHub, repository: str) -> str:
    if not is_repository_name(repository):
        raise ValueError("not a repository's name")
    return f"{github.api_url}/repos/{repository}"


def new_side(patch: str) -> tuple[str, tuple[int, ...]]:
    """Return the added and unchanged lines of a patch, and their numbers in the new file."""
    texts: list[str] = []
    numbers: list[int] = []
    number = 0
    for line in patch.split("\n"):
        hunk = _HUNK.match(line)
        if hunk:
            number = int(hunk[1][:9])
        elif line[:1] in ("+", " "):
            texts.append(line[1:])
            numbers.append(number)
            number += 1
    return "\n".join(texts), tuple(numbers)


def _add_message(found: Comparison, item: dict[str, Any]) -> None:
    sha, message = item.get("sha"), _dict(item.get("commit")).get("message")
    if isinstance(sha, str) and isinstance(message, str):
        found.messages.append((sha, message))


def _add_files(found: Comparison, value: dict[str, Any], commit: str) -> None:
    files = _list(value.get("files"))
    for item in files:
        _add_file(found, item, commit)
    found.unread["files_over_limit"] += len(files) >= MAX_FILES
    found.unread = +found.unread


def _add_file(found: Comparison, item: dict[str, Any], commit: str) -> None:
    path, patch = item.get("filename"), item.get("patch")
    if not isinstance(path, str):
        found.unread["unusable_file"] += 1
    elif not isinstance(patch, str):
        found.unread["no_patch"] += item.get("status") not in ("removed", "renamed") or bool(item.get("changes"))
    else:
        text, numbers = new_side(patch)
        found.files.append(ChangedText(path, text, numbers, commit))


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

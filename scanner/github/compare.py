"""What a push added by the REST API: the fallback where git answers with an error. Sees less, and says how much less.

https://docs.github.com/rest/commits/commits#compare-two-commits: files on the first page only, at most 300 of them and
250 commits; large and binary files come without a patch.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from scanner.github.client import GitHub, get_json
from scanner.github.urls import is_repository_name

MOST_FILES = 300
MOST_COMMITS = 250

_HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")


@dataclass(frozen=True, slots=True)
class ChangedText:
    """The new side of a file's patch. `lines[i]` is the number, in the file, of the i-th line of `text`."""

    path: str
    text: str
    lines: tuple[int, ...]


@dataclass(slots=True)
class Comparison:
    """Texts of files, messages of commits (id, text), and what was not shown, by reason."""

    files: list[ChangedText] = field(default_factory=list)
    messages: list[tuple[str, str]] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


def compare(github: GitHub, repository: str, before: str, head: str) -> Comparison:
    """What is new between two commits; a single commit when there is no `before`. Raises GitHubError."""
    if not is_repository_name(repository):
        raise ValueError("not a repository's name")
    api = f"{github.api_url}/repos/{repository}"
    if before.strip("0"):
        _, value = get_json(github, f"{api}/compare/{before}...{head}", expected=dict)
        commits = value.get("commits")
    else:
        _, value = get_json(github, f"{api}/commits/{head}", expected=dict)
        commits = [value]
    found = Comparison()
    for item in _list(value.get("files")):
        _add_file(found, item)
    for item in _list(commits):
        sha, message = item.get("sha"), _dict(item.get("commit")).get("message")
        if isinstance(sha, str) and isinstance(message, str):
            found.messages.append((sha, message))
    total = value.get("total_commits")
    if isinstance(total, int) and total > len(found.messages):
        found.unread["commits_over_limit"] += total - len(found.messages)
    if len(_list(value.get("files"))) >= MOST_FILES:
        found.unread["files_over_limit"] += 1
    # It shows two ends only: what came and went in between is not in it.
    found.unread["between_commits"] += len(found.messages) > 1
    found.unread = +found.unread
    return found


def new_side(patch: str) -> tuple[str, tuple[int, ...]]:
    """The added and the unchanged lines of a patch, and their numbers in the new file."""
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


def _add_file(found: Comparison, item: dict[str, Any]) -> None:
    path, patch = item.get("filename"), item.get("patch")
    if not isinstance(path, str):
        found.unread["unusable_file"] += 1
    elif not isinstance(patch, str):
        found.unread["no_patch"] += item.get("status") not in ("removed", "renamed") or bool(item.get("changes"))
    else:
        text, numbers = new_side(patch)
        found.files.append(ChangedText(path, text, numbers))


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

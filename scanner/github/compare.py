"""Reads the changes of a push from the REST API. This is used when the git server answers with an error.

GitHub shows at most 250 commits and 300 files: https://docs.github.com/rest/commits/commits#compare-two-commits
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
"""At most this many commits are read one by one if GitHub cannot compare two commits."""

_HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")


@dataclass(frozen=True, slots=True)
class ChangedText:
    """The added and unchanged lines of a changed file.

    Attributes:
        lines: For each line of `text`, its line number in the file, from 1.
    """

    path: str
    text: str
    lines: tuple[int, ...]
    commit: str


@dataclass(slots=True)
class Comparison:
    """The changes between two commits, as far as GitHub shows them.

    Attributes:
        files: The added and unchanged text of each changed file.
        messages: The id and the message of each commit.
        unread: How often content was not shown, by reason.
    """

    files: list[ChangedText] = field(default_factory=list)
    messages: list[tuple[str, str]] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)

    def add_message(self, commit: dict[str, Any]) -> None:
        """Add the message of a commit in GitHub's JSON."""
        sha, message = commit.get("sha"), _dict(commit.get("commit")).get("message")
        if isinstance(sha, str) and isinstance(message, str):
            self.messages.append((sha, message))

    def add_files(self, value: dict[str, Any], commit: str) -> None:
        """Add the changed files in GitHub's JSON of a commit or of a comparison. `commit` is the commit that contains
        them.
        """
        files = _list(value.get("files"))
        for item in files:
            path, patch = item.get("filename"), item.get("patch")
            if not isinstance(path, str):
                self.unread["unusable_file"] += 1
            elif not isinstance(patch, str):
                self.unread["no_patch"] += item.get("status") not in ("removed", "renamed") or bool(item.get("changes"))
            else:
                text, numbers = new_side(patch)
                self.files.append(ChangedText(path, text, numbers, commit))
        self.unread["files_over_limit"] += len(files) >= MAX_FILES
        self.unread = +self.unread

    def add_commit(self, commit: dict[str, Any], sha: str) -> None:
        """Add the changed files and the message of a commit in GitHub's JSON."""
        self.add_files(commit, sha)
        self.add_message(commit)


def compare(github: GitHub, repository: str, before: str, head: str) -> Comparison:
    """Return the changes from commit `before` to commit `head`. If `before` is "", return the changes of `head` alone.

    Raises:
        GitHubError: GitHub gave no usable answer.
    """
    found = Comparison()
    if not before.strip("0"):
        found.add_commit(_commit(github, repository, head), head)
        return found
    _, value = get_json(github, f"{_address(github, repository)}/compare/{before}...{head}", expected=dict)
    found.add_files(value, head)
    for item in _list(value.get("commits")):
        found.add_message(item)
    total = value.get("total_commits")
    if isinstance(total, int) and total > len(found.messages):
        found.unread["commits_over_limit"] += total - len(found.messages)
    # A comparison omits content that one commit adds and a later one removes.
    found.unread["between_commits"] += len(found.messages) > 1
    found.unread = +found.unread
    return found


def read_singly(github: GitHub, repository: str, before: str, head: str) -> Comparison:
    """Request each commit from `before` to `head` separately, and return their changes.

    Only the first parent of each commit is followed.

    Raises:
        GitHubError: GitHub gave no usable answer.
    """
    found = Comparison()
    sha: str | None = head
    for _ in range(MAX_SINGLE):
        if sha is None or sha == before:
            break
        commit = _commit(github, repository, sha)
        found.add_commit(commit, sha)
        sha = _first_parent(commit)
    found.unread["commits_over_limit"] += sha not in (None, before)
    found.unread = +found.unread
    return found


def _commit(github: GitHub, repository: str, sha: str) -> dict[str, Any]:
    _, value = get_json(github, f"{_address(github, repository)}/commits/{sha}", expected=dict)
    commit: dict[str, Any] = value
    return commit


def _first_parent(commit: dict[str, Any]) -> str | None:
    """Return the id of the commit's first parent, or None for a root commit."""
    parent = next(iter(_list(commit.get("parents"))), {}).get("sha")
    return parent if isinstance(parent, str) and is_object_id(parent) else None


def _address(github: GitHub, repository: str) -> str:
    if not is_repository_name(repository):
        raise ValueError("not a repository's name")
    return f"{github.api_url}/repos/{repository}"


def new_side(patch: str) -> tuple[str, tuple[int, ...]]:
    """Return the added and unchanged lines of a patch as one text, and their line numbers in the new file."""
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


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

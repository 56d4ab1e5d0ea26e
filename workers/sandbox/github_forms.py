"""Builds the simulated GitHub's JSON objects, with every field that GitHub's API description requires."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

LONG_AGO = "2026-01-01T00:00:00Z"

_USER_LISTS = (
    *("events", "followers", "following", "gists", "organizations", "received_events", "repos", "starred"),
    "subscriptions",
)
_REPOSITORY_LISTS = (
    *("archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare", "contents"),
    *("contributors", "deployments", "downloads", "events", "forks", "git_commits", "git_refs", "git_tags", "hooks"),
    *("issue_comment", "issue_events", "issues", "keys", "labels", "languages", "merges", "milestones"),
    *("notifications", "pulls", "releases", "stargazers", "statuses", "subscribers", "subscription", "tags"),
    *("teams", "trees"),
)


def node_id(*what: object) -> str:
    """Return an id like those of GitHub's GraphQL API. The same values give the same id."""
    return hashlib.sha256("/".join(map(str, what)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def user(api_url: str, login: str) -> dict[str, Any]:
    """Return a user's JSON object, in the short form that other objects contain."""
    address = f"{api_url}/users/{login}"
    return {
        "login": login,
        "id": 1,
        "node_id": node_id("user", login),
        "avatar_url": "https://avatars.githubusercontent.com/u/1?",
        "gravatar_id": "",
        "url": address,
        "html_url": address,
        **{f"{name}_url": f"{address}/{name}" for name in _USER_LISTS},
        "type": "User",
        "site_admin": False,
    }


def repository(api_url: str, web_url: str, number: int, full_name: str, description: str | None) -> dict[str, Any]:
    """Return a repository's JSON object, with all fields of GitHub's endpoints."""
    owner, _, name = full_name.partition("/")
    address, page = f"{api_url}/repos/{full_name}", f"{web_url}/{full_name}"
    return {
        "id": number,
        "node_id": node_id("repository", number),
        "name": name,
        "full_name": full_name,
        "owner": user(api_url, owner),
        "private": False,
        "fork": False,
        "description": description,
        "html_url": page,
        "url": address,
        **{f"{name}_url": f"{address}/{name}" for name in _REPOSITORY_LISTS},
        **{f"{name}_url": f"{page}.git" for name in ("clone", "git", "ssh", "svn")},
        **dict.fromkeys(("homepage", "language", "license", "mirror_url")),
        **dict.fromkeys(("archived", "disabled", "has_discussions", "has_pages"), False),
        **dict.fromkeys(("has_issues", "has_projects", "has_wiki", "has_downloads"), True),
        **dict.fromkeys(("forks", "forks_count", "open_issues", "open_issues_count", "stargazers_count"), 0),
        **dict.fromkeys(("watchers", "watchers_count", "network_count", "subscribers_count"), 0),
        **dict.fromkeys(("created_at", "updated_at", "pushed_at"), LONG_AGO),
        "size": 1,
        "default_branch": "main",
    }


def written(what: str, address: str, number: int, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON object of an issue, a comment or another text that a user has written.

    Args:
        what: The text's list in the REST API, such as "issues/comments".
        address: The URL of the repository or gist in the API.
        number: The number of the text in the list.
        entry: The fields that differ from the default values. They are used unchanged, even if they are malformed.
    """
    api_url = address.partition("/repos/")[0].partition("/gists/")[0]
    page = f"{address}/{what}/{number}"
    common = {
        "id": number,
        "node_id": node_id(what, number),
        "url": page,
        "html_url": page,
        "user": user(api_url, "ana"),
        "body": "",
        "author_association": "NONE",
        "created_at": LONG_AGO,
        "updated_at": LONG_AGO,
    }
    more = _MORE.get(what.rpartition("/")[2] if what.endswith("/reviews") else what)
    return {**common, **(more(address, number) if more else {}), **entry}


def _issue(address: str, number: int) -> dict[str, Any]:
    page = f"{address}/issues/{number}"
    return {
        "number": number,
        "title": "",
        "state": "open",
        "locked": False,
        "comments": 0,
        "labels": [],
        "assignee": None,
        "milestone": None,
        "closed_at": None,
        "repository_url": address,
        **{f"{name}_url": f"{page}/{name}" for name in ("comments", "events", "labels")},
    }


def _pull(address: str, number: int) -> dict[str, Any]:
    page = f"{address}/pulls/{number}"
    api_url, _, full_name = address.partition("/repos/")
    head = {
        "label": "ana:main",
        "ref": "main",
        "sha": "0" * 40,
        "user": user(api_url, "ana"),
        "repo": repository(api_url, api_url, 1, full_name, None),
    }
    names = ("comments", "commits", "diff", "issue", "patch", "review_comment", "review_comments", "statuses")
    links = ("comments", "commits", "statuses", "html", "issue", "review_comments", "review_comment", "self")
    return {
        "number": number,
        "title": "",
        "state": "open",
        "locked": False,
        "labels": [],
        "head": head,
        "base": head,
        **dict.fromkeys(("assignee", "milestone", "closed_at", "merged_at", "merge_commit_sha", "auto_merge")),
        **{f"{name}_url": f"{page}/{name}" for name in names},
        "_links": {name: {"href": f"{page}/{name}"} for name in links},
    }


def _issue_comment(address: str, number: int) -> dict[str, Any]:
    return {"issue_url": f"{address}/issues/{number}"}


def _review_comment(address: str, number: int) -> dict[str, Any]:
    page = f"{address}/pulls/comments/{number}"
    return {
        "pull_request_review_id": None,
        "diff_hunk": "",
        "path": "a.py",
        "pull_request_url": page,
        "commit_id": "0" * 40,
        "original_commit_id": "0" * 40,
        "_links": {name: {"href": page} for name in ("self", "html", "pull_request")},
    }


def _commit_comment(address: str, number: int) -> dict[str, Any]:
    del address, number
    return {"position": None, "line": None, "path": None, "commit_id": "0" * 40}


def _release(address: str, number: int) -> dict[str, Any]:
    page = f"{address}/releases/{number}"
    return {
        **{f"{name}_url": f"{page}/{name}" for name in ("assets", "upload", "tarball", "zipball")},
        "tag_name": f"v{number}",
        "target_commitish": "main",
        "name": None,
        "draft": False,
        "prerelease": False,
        "published_at": LONG_AGO,
        "author": user(address.partition("/repos/")[0], "ana"),
        "assets": [],
    }


def _review(address: str, number: int) -> dict[str, Any]:
    page = f"{address}/pulls/1/reviews/{number}"
    return {
        "state": "COMMENTED",
        "commit_id": "0" * 40,
        "pull_request_url": page,
        "submitted_at": LONG_AGO,
        "_links": {name: {"href": page} for name in ("html", "pull_request")},
    }


_MORE: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "issues": _issue,
    "pulls": _pull,
    "issues/comments": _issue_comment,
    "pulls/comments": _review_comment,
    "comments": _commit_comment,
    "releases": _release,
    "reviews": _review,
}

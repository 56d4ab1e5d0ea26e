"""Parses GitHub addresses that an operator pastes from a browser or a terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from scanner.github.urls import is_repository_name

TargetKind = Literal["repository", "commit", "push", "gist", "owner"]

_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9_-])?")
_GIST = re.compile(r"[0-9a-f]{1,64}")
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SSH = re.compile(r"(?:(?:git\+)?ssh://)?(?:[\w.-]+@)([A-Za-z0-9.-]+)(?::\d+/|[:/])(.+)", re.ASCII)
_SSH_OVER_HTTPS = "ssh."
"""The beginning of GitHub's host for SSH over the HTTPS port:
https://docs.github.com/en/authentication/troubleshooting-ssh/using-ssh-over-the-https-port
"""
_QUOTES = "<>()[]\"'`,;. \t\r\n"
"""Characters that may surround an address in a mail or a chat and do not belong to the address."""
_NOT_OWNERS = frozenset(
    (
        *("about", "apps", "collections", "contact", "events", "explore", "features", "issues", "login"),
        *("marketplace", "new", "notifications", "orgs", "pricing", "pulls", "search", "settings", "sponsors"),
        *("topics", "trending"),
    )
)


@dataclass(frozen=True, slots=True)
class Target:
    """What an operator wants to scan again: a repository, push, commit, gist, or everything of an owner.

    `name` is a repository's "owner/name", an owner's name, or a gist's id. `before` and `head` are commit ids.
    """

    kind: TargetKind
    name: str
    before: str = ""
    head: str = ""


def is_owner(name: str) -> bool:
    """Return whether `name` is a valid name of a user or an organisation."""
    return bool(_OWNER.fullmatch(name))


def is_gist_id(value: str) -> bool:
    """Return whether `value` is a valid id of a gist."""
    return bool(_GIST.fullmatch(value))


def is_object_id(value: str) -> bool:
    """Return whether `value` is a full object id: 40 or 64 hex digits in lower case."""
    return bool(_SHA.fullmatch(value))


def parse_address(text: str, web_url: str, api_url: str) -> Target:
    """Return the target to which a GitHub address refers.

    Raises:
        ValueError: The text is not such an address. The message is one line that lists the accepted addresses.
    """
    web_host, api_host = urlsplit(web_url).netloc, urlsplit(api_url).netloc
    text = text.strip(_QUOTES).removeprefix("git+")
    if text.lower().startswith("git clone "):
        text = text.split()[-1]
    ssh = _SSH.fullmatch(text)
    # Add the scheme if it is missing, because browsers do not show it.
    url = urlsplit(f"https://{ssh[1]}/{ssh[2]}" if ssh else text if "://" in text else f"https://{text}")
    host = url.netloc.rpartition("@")[2].lower()
    if ssh:
        host = host.removeprefix(_SSH_OVER_HTTPS)
    parts = [unquote(part) for part in url.path.split("/") if part]
    if host in (f"gist.{web_host}", "gist.githubusercontent.com"):
        return _gist(parts)
    root = [part for part in urlsplit(api_url).path.split("/") if part]
    if host == api_host and parts[: len(root)] == root and parts[len(root) :][:1] in (["repos"], ["gists"]):
        kind, *parts = parts[len(root) :]
        if kind == "gists":
            return _gist(parts)
    elif host not in (web_host, f"www.{web_host}", "raw.githubusercontent.com"):
        raise ValueError(f"not an address of {web_host}: give {web_url}/OWNER/NAME or a page below it")
    if parts[:1] == ["gist"]:
        return _gist(parts[1:])
    if len(parts) >= 2 and parts[0] == "orgs":
        parts = [parts[1]]
    if len(parts) == 1 and is_owner(parts[0]) and parts[0].lower() not in _NOT_OWNERS:
        return Target("owner", parts[0])
    if len(parts) >= 2 and parts[0].lower() not in _NOT_OWNERS:
        return _in_repository(f"{parts[0]}/{parts[1].removesuffix('.git')}", parts[2:])
    raise ValueError(f"it leads to no repository, gist or commit: give {web_url}/OWNER/NAME or a page below it")


def _gist(parts: list[str]) -> Target:
    found = next((part.removesuffix(".git") for part in parts[:2][::-1] if is_gist_id(part.removesuffix(".git"))), None)
    if found is None:
        raise ValueError("it contains no id of a gist: give https://gist.github.com/OWNER/ID")
    return Target("gist", found)


def _in_repository(name: str, rest: list[str]) -> Target:
    if not is_repository_name(name):
        raise ValueError(f"{name[:100]!r} is not a repository's name")
    if len(rest) >= 2 and rest[0] in ("commit", "commits") and is_object_id(rest[1]):
        return Target("commit", name, head=rest[1])
    if len(rest) >= 2 and rest[0] == "compare":
        before, dots, head = rest[1].partition("...")
        if dots and is_object_id(before) and is_object_id(head):
            return Target("push", name, before, head)
    # The address of a file, a branch, an issue or a release does not name commits, so rescan the whole repository.
    return Target("repository", name)

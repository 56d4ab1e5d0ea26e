"""Writes r8scan's own test tokens into a repository or gist through the REST API."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from scanner.github.client import (
    ACCEPT,
    API_VERSION,
    MAX_JSON_BYTES,
    GitHub,
    check_status,
    decoded,
    get_json,
    read_body,
)
from scanner.github.errors import NotFound, Unavailable

MESSAGE = "A canary of r8scan"


def write_file(github: GitHub, repository: str, name: str, content: bytes) -> str:
    """Commit a file to the repository's default branch. Return the address of its page, or "" if it is unknown.

    https://docs.github.com/rest/repos/contents#create-or-update-file-contents

    Raises:
        GitHubError: The file was not written.
    """
    url = f"{github.api_url}/repos/{repository}/contents/{name}"
    body: dict[str, Any] = {"message": MESSAGE, "content": base64.b64encode(content).decode("ascii")}
    try:
        _, present = get_json(github, url, expected=dict)
        body["sha"] = present.get("sha")
    except NotFound:
        pass  # it is the first canary, and the file does not exist yet
    written = _sent(github, "PUT", url, body).get("content")
    return _page(github, written.get("html_url")) if isinstance(written, dict) else ""


def write_gist_file(github: GitHub, gist: str, name: str, content: bytes) -> str:
    """Write a file into a gist. Return the address of the gist's page, or "" if it is unknown.

    https://docs.github.com/rest/gists/gists#update-a-gist

    Raises:
        GitHubError: The file was not written.
    """
    body = {"files": {name: {"content": content.decode("ascii")}}}
    return _page(github, _sent(github, "PATCH", f"{github.api_url}/gists/{gist}", body).get("html_url"))


def _sent(github: GitHub, method: str, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request once, without retries, and return GitHub's JSON answer."""
    # Do not retry: the token could be published twice.
    headers = {"Accept": ACCEPT, "X-GitHub-Api-Version": API_VERSION}
    host = urlsplit(url).hostname or ""
    try:
        with github.http.stream(method, url, json=body, headers=headers, follow_redirects=False) as response:
            answer = read_body(response, MAX_JSON_BYTES)
    except httpx.HTTPError as err:
        raise Unavailable("connection", f"{host} cannot be reached ({type(err).__name__})") from err
    check_status(response, answer, github.credential_label)
    found: dict[str, Any] = decoded(answer, host, dict)
    return found


def _page(github: GitHub, url: object) -> str:
    is_own = isinstance(url, str) and url.startswith("https://" if github.web_url.startswith("https") else "http")
    return str(url)[:500] if is_own else ""

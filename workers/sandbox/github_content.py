"""Responses of the simulated REST API about the content of a repository."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workers.sandbox import github_forms
from workers.sandbox.git_backend import git
from workers.sandbox.github import Repository, SandboxGitHub
from workers.sandbox.github_forms import LONG_AGO, node_id

MAX_FILES = 300
MAX_COMMITS = 250
SEARCHED_BYTES = 384 * 1024
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def compare(path: Path, address: str, before: str, head: str) -> dict[str, Any] | None:
    """Return GitHub's comparison of two commits, or None if one of them does not exist. `address` is the repository's
    API URL.
    """
    page = f"{address}/compare/{before}...{head}"
    try:
        base = git("merge-base", before, head, cwd=path).decode().strip()
        listed = git("rev-list", "--reverse", f"{base}..{head}", cwd=path).decode().split()
        return {
            **dict.fromkeys(("url", "html_url", "permalink_url", "diff_url", "patch_url"), page),
            "base_commit": _commit(path, address, before),
            "merge_base_commit": _commit(path, address, base),
            "status": "ahead",
            "ahead_by": len(listed),
            "behind_by": 0,
            "total_commits": len(listed),
            "commits": [_commit(path, address, sha) for sha in listed[:MAX_COMMITS]],
            "files": _files(path, address, base, head),
        }
    except subprocess.CalledProcessError:
        return None


def commit(path: Path, address: str, sha: str) -> dict[str, Any] | None:
    """Return GitHub's JSON object for a commit and its files, or None. `address` is the repository's API URL."""
    try:
        described = _commit(path, address, sha)
        parents = [parent["sha"] for parent in described["parents"]]
        return {**described, "files": _files(path, address, parents[0] if parents else _EMPTY_TREE, sha)}
    except subprocess.CalledProcessError:
        return None


def blob(path: Path, address: str, sha: str) -> dict[str, Any] | None:
    """Return GitHub's JSON object for a blob, or None. `address` is the repository's API URL."""
    try:
        content = git("cat-file", "blob", sha, cwd=path)
    except subprocess.CalledProcessError:
        return None
    encoded = base64.encodebytes(content).decode()
    url = f"{address}/git/blobs/{sha}"
    return {
        "sha": sha,
        "node_id": node_id(sha),
        "url": url,
        "size": len(content),
        "encoding": "base64",
        "content": encoded,
    }


def search(repositories: Sequence[Repository], query: str, github: SandboxGitHub) -> list[dict[str, Any]]:
    """Return the files on default branches that contain the query's first word, with the text around it.

    The query may also contain a size filter (`size:low..high`).
    """
    word = next((part for part in query.split() if ":" not in part), "")
    sizes = re.search(r"size:(\d+)\.\.(\d+)", query)
    low, high = (int(sizes[1]), int(sizes[2])) if sizes else (0, SEARCHED_BYTES)
    items: list[dict[str, Any]] = []
    for repository in repositories if word else ():
        head = subprocess.run(
            ["git", "grep", "-l", "-z", "-F", "-e", word, "HEAD"], cwd=repository.path, capture_output=True, check=False
        )
        for name in filter(None, head.stdout.decode("utf-8", "surrogateescape").split("\0")):
            path = name.removeprefix("HEAD:")
            content = git("cat-file", "blob", f"HEAD:{path}", cwd=repository.path)
            if low <= len(content) <= min(high, SEARCHED_BYTES):
                items.append(_item(repository, path, content, word, github))
    return items


def _item(repository: Repository, path: str, content: bytes, word: str, github: SandboxGitHub) -> dict[str, Any]:
    text = content.decode("utf-8", "replace")
    at = text.find(word)
    fragment = text[max(at - 60, 0) : at + 120]
    sha = git("rev-parse", f"HEAD:{path}", cwd=repository.path).decode().strip()
    head = git("rev-parse", "HEAD", cwd=repository.path).decode().strip()
    return {
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": sha,
        "url": f"{github.api_url}/repositories/{repository.id}/contents/{path}?ref={head}",
        "git_url": f"{github.api_url}/repositories/{repository.id}/git/blobs/{sha}",
        "html_url": f"{github.url}/{repository.name}/blob/{head}/{path}",
        "repository": github_forms.repository(github.api_url, github.url, repository.id, repository.name, None),
        "score": 1.0,
        "text_matches": [{"object_type": "FileContent", "property": "content", "fragment": fragment}],
    }


def _commit(path: Path, address: str, sha: str) -> dict[str, Any]:
    listed = git("log", "-1", "--format=%H%x00%T%x00%P%x00%B", sha, cwd=path).decode("utf-8", "replace")
    oid, tree, parents, message = listed.split("\0", 3)
    url = f"{address}/commits/{oid}"
    person = {"name": "ana", "email": "ana@example.com", "date": LONG_AGO}
    return {
        "sha": oid,
        "node_id": node_id(oid),
        "url": url,
        "html_url": url,
        "comments_url": f"{url}/comments",
        "author": None,
        "committer": None,
        "commit": {
            "author": person,
            "committer": person,
            "message": message.rstrip("\n"),
            "comment_count": 0,
            "tree": {"sha": tree, "url": f"{address}/git/trees/{tree}"},
            "url": f"{address}/git/commits/{oid}",
        },
        "parents": [{"sha": parent, "url": f"{address}/commits/{parent}"} for parent in parents.split()],
    }


def _files(path: Path, address: str, before: str, head: str) -> list[dict[str, Any]]:
    raw = git("diff-tree", "-r", "-z", "--name-only", before, head, cwd=path)
    files: list[dict[str, Any]] = []
    for name in filter(None, raw.decode("utf-8", "surrogateescape").split("\0")):
        patch = git("diff", "--no-ext-diff", before, head, "--", f":(literal){name}", cwd=path).decode(
            "utf-8", "replace"
        )
        at = patch.find("\n@@ ")
        page = f"{address}/contents/{quote(name, errors='surrogateescape')}?ref={head}"
        file = {
            "filename": name,
            "status": "modified",
            "sha": None,
            "changes": 1,
            "additions": 1,
            "deletions": 0,
            **dict.fromkeys(("blob_url", "raw_url", "contents_url"), page),
        }
        files.append({**file, "patch": patch[at + 1 :].rstrip("\n")} if at >= 0 else file)
    return files[:MAX_FILES]

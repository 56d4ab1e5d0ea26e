"""What the sandbox's REST API says of a repository's content, asked of git itself."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers.sandbox.git_backend import git
from workers.sandbox.github import Repository

MOST_FILES = 300
MOST_COMMITS = 250
SEARCHED_BYTES = 384 * 1024
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def compare(path: Path, before: str, head: str) -> dict[str, Any] | None:
    """The answer to a comparison; None when one of its ends does not exist."""
    try:
        base = git("merge-base", before, head, cwd=path).decode().strip()
        listed = git("rev-list", "--reverse", f"{base}..{head}", cwd=path).decode().split()
        return {
            "status": "ahead",
            "total_commits": len(listed),
            "commits": [_commit(path, sha) for sha in listed[:MOST_COMMITS]],
            "files": _files(path, base, head),
        }
    except subprocess.CalledProcessError:
        return None


def commit(path: Path, sha: str) -> dict[str, Any] | None:
    """A commit with its files; None when there is no such commit."""
    try:
        parents = git("rev-list", "--parents", "-n", "1", sha, cwd=path).decode().split()[1:]
        files = _files(path, parents[0] if parents else _EMPTY_TREE, sha)
        return {**_commit(path, sha), "parents": [{"sha": parent} for parent in parents], "files": files}
    except subprocess.CalledProcessError:
        return None


def blob(path: Path, sha: str) -> dict[str, Any] | None:
    """A blob's content, in base64."""
    try:
        content = git("cat-file", "blob", sha, cwd=path)
    except subprocess.CalledProcessError:
        return None
    encoded = base64.encodebytes(content).decode()
    return {"sha": sha, "size": len(content), "encoding": "base64", "content": encoded}


def search(repositories: Sequence[Repository], query: str, web_url: str) -> list[dict[str, Any]]:
    """Files of default branches that hold the first word of the query, each with a fragment around it.

    Of the qualifiers only `size:low..high` is known.
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
                items.append(_item(repository, path, content, word, web_url))
    return items


def _item(repository: Repository, path: str, content: bytes, word: str, web_url: str) -> dict[str, Any]:
    text = content.decode("utf-8", "replace")
    at = text.find(word)
    fragment = text[max(at - 60, 0) : at + 120]
    sha = git("rev-parse", f"HEAD:{path}", cwd=repository.path).decode().strip()
    head = git("rev-parse", "HEAD", cwd=repository.path).decode().strip()
    return {
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": sha,
        "html_url": f"{web_url}/{repository.name}/blob/{head}/{path}",
        "repository": {"id": repository.id, "full_name": repository.name, "description": None},
        "score": 1.0,
        "text_matches": [{"object_type": "FileContent", "property": "content", "fragment": fragment}],
    }


def _commit(path: Path, sha: str) -> dict[str, Any]:
    message = git("log", "-1", "--format=%B", sha, cwd=path).decode("utf-8", "replace")
    return {"sha": git("rev-parse", sha, cwd=path).decode().strip(), "commit": {"message": message.rstrip("\n")}}


def _files(path: Path, before: str, head: str) -> list[dict[str, Any]]:
    raw = git("diff-tree", "-r", "-z", "--name-only", before, head, cwd=path)
    files: list[dict[str, Any]] = []
    for name in filter(None, raw.decode("utf-8", "surrogateescape").split("\0")):
        patch = git("diff", "--no-ext-diff", before, head, "--", f":(literal){name}", cwd=path).decode(
            "utf-8", "replace"
        )
        at = patch.find("\n@@ ")
        file = {"filename": name, "status": "modified", "changes": 1}
        files.append({**file, "patch": patch[at + 1 :].rstrip("\n")} if at >= 0 else file)
    return files[:MOST_FILES]

"""Git repositories that clients can clone and push to over HTTP, for the simulated GitHub."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

BACKEND_SECONDS = 120
ZEROS = "0" * 40


def clean_environment(**extra: str) -> dict[str, str]:
    """Return environment variables that make git ignore the user's configuration. `extra` are further variables."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        **extra,
    }


def git(
    *arguments: str | Path, cwd: Path | None = None, content: bytes | None = None, env: dict[str, str] | None = None
) -> bytes:
    """Run git and return its output.

    Raises:
        subprocess.CalledProcessError: git failed.
    """
    result = subprocess.run(
        ["git", *map(str, arguments)],
        cwd=cwd,
        env=clean_environment(**(env or {})),
        input=content,
        stdin=subprocess.DEVNULL if content is None else None,
        capture_output=True,
        check=True,
        timeout=BACKEND_SECONDS,
    )
    return result.stdout


@dataclass(frozen=True, slots=True)
class RefChange:
    """A git ref (branch or tag) before and after a push. A missing ref has an id of 40 zeros."""

    ref: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class CgiAnswer:
    """An HTTP response of `git http-backend`."""

    status: int
    headers: dict[str, str]
    body: bytes


def create_bare(path: Path, *, allow_filter: bool) -> None:
    """Create a bare repository that clients can clone and push to over HTTP."""
    path.parent.mkdir(parents=True, exist_ok=True)
    git("init", "--quiet", "--bare", "--initial-branch=main", "--template=", path)
    for key, value in (
        ("http.receivepack", "true"),
        ("uploadpack.allowAnySHA1InWant", "true"),
        ("uploadpack.allowFilter", "true" if allow_filter else "false"),
        ("gc.auto", "0"),
        ("receive.autogc", "false"),
    ):
        git("config", key, value, cwd=path)


def refs(path: Path) -> dict[str, str]:
    """Return the object id of each ref (branch or tag), by name."""
    listed = git("for-each-ref", "--format=%(objectname) %(refname)", cwd=path).decode("utf-8", "surrogateescape")
    return {name: oid for oid, _, name in (line.partition(" ") for line in listed.splitlines())}


def changes(before: dict[str, str], after: dict[str, str]) -> list[RefChange]:
    """Return the refs that were created, moved or deleted between two results of `refs`."""
    return [
        RefChange(ref, before.get(ref, ZEROS), after.get(ref, ZEROS))
        for ref in sorted(before.keys() | after.keys())
        if before.get(ref) != after.get(ref)
    ]


def backend(
    path: Path, *, method: str, suffix: str, query: str, content_type: str, protocol: str, encoding: str, body: bytes
) -> CgiAnswer:
    """Pass one HTTP request to `git http-backend`. `suffix` is the path after the repository's address."""
    environment = clean_environment(
        GIT_PROJECT_ROOT=str(path),
        GIT_HTTP_EXPORT_ALL="1",
        PATH_INFO=suffix,
        REQUEST_METHOD=method,
        QUERY_STRING=query,
        CONTENT_TYPE=content_type,
        CONTENT_LENGTH=str(len(body)),
        HTTP_CONTENT_ENCODING=encoding,
        GIT_PROTOCOL=protocol,
        REMOTE_ADDR="127.0.0.1",
    )
    result = subprocess.run(
        ["git", "http-backend"],
        env=environment,
        input=body,
        capture_output=True,
        check=False,
        timeout=BACKEND_SECONDS,
    )
    head, _, content = result.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200").split()[0]) if result.stdout else 500
    return CgiAnswer(status, headers, content)


def commit_files(
    path: Path, files: dict[str, bytes], message: str, branch: str = "main", parent: str | None = None
) -> str:
    """Commit exactly these files, point the branch to the commit, and return its id. The files must not be in
    folders.
    """
    listed = b""
    for name, content in files.items():
        blob = git("hash-object", "-w", "--stdin", cwd=path, content=content).strip()
        listed += b"100644 blob %s\t%s\0" % (blob, name.encode())
    tree = git("mktree", "-z", cwd=path, content=listed).decode().strip()
    person = {
        f"GIT_{role}_{field}": "ana@example.com" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")
    }
    commit = (
        git("commit-tree", tree, "-m", message, *(("-p", parent) if parent else ()), cwd=path, env=person)
        .decode()
        .strip()
    )
    git("update-ref", f"refs/heads/{branch}", commit, cwd=path)
    return commit


def is_ancestor(path: Path, older: str, newer: str) -> bool:
    """Return whether the commit `older` is an ancestor of the commit `newer`."""
    command = ["git", "merge-base", "--is-ancestor", older, newer]
    return subprocess.run(command, cwd=path, env=clean_environment(), capture_output=True, check=False).returncode == 0


def remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)

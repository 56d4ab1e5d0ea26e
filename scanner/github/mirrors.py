"""Copies whole repositories with `git clone --mirror`, within limits."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import httpx

from scanner.git_children import READING, RECEIVING, environment, git_child
from scanner.github import git_protocol
from scanner.github.client import GitHub, is_blocked
from scanner.github.errors import (
    BadCredential,
    Forbidden,
    GitHubError,
    Malformed,
    NotFound,
    RateLimited,
    Unavailable,
)
from scanner.github.rate_limit import SECONDARY_LIMIT_SECONDS

CHECK_SECONDS = 0.5
MAX_SECONDS = 6 * 3600
STDERR_READ = 64 * 1024
MAX_STDERR = 16 * 1024 * 1024
MAX_CHECK_SECONDS = 120
MAX_ANSWER_BYTES = 16 << 20
"""Limit of git's answer to a list of object ids. Each id takes about 80 bytes."""
COMMITS_A_FETCH = 100
MAX_FETCHES = 500
"""At most this many git commands fetch commits by their ids into one copied repository."""
MAX_WAIT_SECONDS = 1800.0
"""The copying of one repository waits at most this long for rate limits, in total."""
GONE = ("not_our_ref", "not_found", "blocked")
"""Reasons of errors that mean that a commit is no longer public."""
FORBIDDEN_SECONDS = 600.0
"""Seconds to wait after a 403 without text, because it may be a rate limit."""

_BROKEN = (
    b"could not resolve",
    b"failed to connect",
    b"couldn't connect",
    b"connection reset",
    b"connection refused",
    b"timed out",
    b"too slow",
    b"early eof",
    b"hung up unexpectedly",
    b"empty reply",
)
_PROGRESS = re.compile(rb"Receiving objects:\s+\d+% \((\d+)/(\d+)\)")


class MirrorTooLarge(GitHubError):
    """The repository is larger than the limit. The caller must remove the incomplete copy."""


class MirrorStopped(Exception):
    """The copying of a repository was stopped on request."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """How many commits were fetched (`got`), no longer exist on the server (`gone`), and could not be fetched
    (`unread`).
    """

    got: int
    gone: int
    unread: int


def clone(
    github: GitHub,
    url: str,
    folder: Path,
    *,
    limit_bytes: int,
    stop: threading.Event,
    on_progress: Callable[[int, int], None] = lambda *_: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Copy the repository at `url`, with all its branches and tags, into `folder`.

    Args:
        url: The repository's current address. Redirects are not followed.
        folder: The folder for the copy. It must not exist.
        on_progress: Called with the number of objects received so far and the number of all objects.
        clock: Measures seconds for the limit MAX_SECONDS.

    Raises:
        MirrorTooLarge: The folder is larger than `limit_bytes`.
        MirrorStopped: `stop` was set.
        GitHubError: git could not copy the repository.
    """
    command = ["git", "clone", "--mirror", "--progress", "--template=", "--", url, str(folder)]
    _run(github, command, url, folder, limit_bytes, stop, on_progress, clock)
    if _size(folder) > limit_bytes:
        raise MirrorTooLarge("mirror_over_limit", f"the repository is larger than {limit_bytes} bytes")


def missing_commits(folder: Path, oids: Sequence[str]) -> list[str]:
    """Return the commit ids that the copied repository lacks. If git fails, return all ids."""
    if not oids:
        return []
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answers:
        asked.write("".join(f"{oid}\n" for oid in oids).encode())
        asked.seek(0)
        command = ["git", f"--git-dir={folder}", "cat-file", "--batch-check=%(objectname)"]
        limits = replace(READING, file_bytes=MAX_ANSWER_BYTES)
        with git_child(command, env=git_environment(None, ""), limits=limits, stdin=asked, stdout=answers) as child:
            try:
                status = child.wait(MAX_CHECK_SECONDS)
            except subprocess.TimeoutExpired:
                status = -1
        if status != 0:
            return list(oids)  # fetching an object again only costs time
        answers.seek(0)
        lines = answers.read(MAX_ANSWER_BYTES).splitlines()
    return [line.split(b" ")[0].decode() for line in lines if line.endswith(b" missing")]


def branches_and_tags(folder: Path) -> list[str]:
    """Return the object ids of all branches and tags, the default branch first. If git fails, return []."""
    with tempfile.TemporaryFile() as answers:
        form = "--format=%(if)%(HEAD)%(then)HEAD%(else)ref%(end) %(objectname)"
        command = ["git", f"--git-dir={folder}", "for-each-ref", form, "refs/heads", "refs/tags"]
        limits = replace(READING, file_bytes=MAX_ANSWER_BYTES)
        with git_child(command, env=git_environment(None, ""), limits=limits, stdout=answers) as child:
            try:
                status = child.wait(MAX_CHECK_SECONDS)
            except subprocess.TimeoutExpired:
                status = -1
        if status != 0:
            return []  # without known commits, the next push is read as if it were the first
        answers.seek(0)
        lines = answers.read(MAX_ANSWER_BYTES).decode("ascii", "replace").splitlines()
    return [oid for _, oid in sorted((line.partition(" ")[::2] for line in lines), key=lambda one: one[0] != "HEAD")]


def fetch_commits(
    github: GitHub,
    url: str,
    folder: Path,
    oids: Sequence[str],
    *,
    limit_bytes: int,
    stop: threading.Event,
    on_progress: Callable[[int, int], None] = lambda *_: None,
    clock: Callable[[], float] = time.monotonic,
) -> Fetched:
    """Fetch commits by their ids into the copied repository, under `refs/r8scan/`.

    After a rate limit, the function waits and continues. Commits for which no time is left count as not fetched.

    Args:
        on_progress: Called with the number of commits done so far and the number of all commits.
        clock: Measures seconds for the limit MAX_SECONDS of each git command.

    Raises:
        MirrorTooLarge: The folder is larger than `limit_bytes`.
        MirrorStopped: `stop` was set.
        GitHubError: git failed, and not because of a missing commit or a rate limit.
    """
    waiting = [list(oids[start : start + COMMITS_A_FETCH]) for start in range(0, len(oids), COMMITS_A_FETCH)]
    got = gone = 0
    patience = MAX_WAIT_SECONDS
    for _ in range(MAX_FETCHES):
        if not waiting or patience < 0:
            break
        batch = waiting.pop()
        refspecs = [f"+{oid}:refs/r8scan/{oid}" for oid in batch]
        options = ["--quiet", "--no-tags", "--no-write-fetch-head"]
        command = ["git", "-C", str(folder), "fetch", *options, "--", url, *refspecs]
        try:
            _run(github, command, url, folder, limit_bytes, stop, _no_report, clock)
            got += len(batch)
        except GitHubError as err:
            if _is_limit(err):
                waiting.append(batch)
                patience -= _waited(err, stop, patience)
            elif not _is_refusal(err):
                raise
            elif len(batch) > 1:
                waiting += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
            else:
                gone += err.reason in GONE
        on_progress(got + gone, len(oids))
    return Fetched(got, gone, len(oids) - got - gone)


def _is_limit(err: GitHubError) -> bool:
    """Return whether r8scan must wait because of a rate limit or a failing host."""
    return isinstance(err, RateLimited) or err.reason == "circuit_open"


def _is_refusal(err: GitHubError) -> bool:
    """Return whether the server refused the commits. A request for fewer commits may then succeed."""
    return err.asked and (isinstance(err, NotFound) or err.reason in ("not_our_ref", "clone_failed"))


def _waited(err: GitHubError, stop: threading.Event, patience: float) -> float:
    """Wait for the end of a rate limit, but not longer than `patience` seconds.

    Returns:
        The seconds until the rate limit ends, even if the function did not wait.
    """
    seconds = err.retry_after or SECONDARY_LIMIT_SECONDS
    if seconds <= patience and stop.wait(seconds):
        raise MirrorStopped from err
    return seconds


def _run(
    github: GitHub,
    command: Sequence[str],
    url: str,
    folder: Path,
    limit_bytes: int,
    stop: threading.Event,
    on_progress: Callable[[int, int], None],
    clock: Callable[[], float],
) -> None:
    """Run git if the quota allows a request, and record whether git succeeded."""
    host = httpx.URL(url).netloc.decode()
    credential = github.credential.token()
    github.gate.admit(host, "git", github.reserve)
    try:
        _watch(command, url, folder, credential, limit_bytes, stop, on_progress, clock)
    except GitHubError as err:
        github.gate.note_result(host, "git", err)
        raise
    github.gate.note_result(host, "git", None)


def _watch(
    command: Sequence[str],
    url: str,
    folder: Path,
    credential: str | None,
    limit_bytes: int,
    stop: threading.Event,
    on_progress: Callable[[int, int], None],
    clock: Callable[[], float],
) -> None:
    """Run git. Kill git if it exceeds a limit or if `stop` is set."""
    deadline = clock() + MAX_SECONDS
    with tempfile.TemporaryFile() as stderr:
        with git_child(command, env=git_environment(credential, url), limits=RECEIVING, stderr=stderr) as child:
            while True:
                try:
                    status = child.wait(CHECK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    pass
                if stop.is_set():
                    raise MirrorStopped
                if clock() > deadline:
                    raise Unavailable("clone_too_slow", f"cloning took longer than {MAX_SECONDS} s")
                if _size(folder) > limit_bytes:
                    raise MirrorTooLarge("mirror_over_limit", f"the repository is larger than {limit_bytes} bytes")
                if os.fstat(stderr.fileno()).st_size > MAX_STDERR:
                    raise Malformed("git_too_many_words", f"git wrote more than {MAX_STDERR} bytes of messages")
                on_progress(*_progress(_tail(stderr)))
        if status != 0:
            raise _error(_tail(stderr), status, has_credential=credential is not None)


def _no_report(done: int, total: int) -> None:
    del done, total


def git_environment(credential: str | None, url: str) -> dict[str, str]:
    """Return environment variables for git: no other configuration, no prompts, only HTTP.

    Args:
        credential: The token to send, or None.
        url: The repository's address. git sends the token only to the host in this address.
    """
    config = {
        "protocol.http.allow": "always",
        "protocol.https.allow": "always",
        "http.followRedirects": "false",
        "http.lowSpeedLimit": "1000",
        "http.lowSpeedTime": "60",
    }
    if credential and url:
        basic = base64.b64encode(f"x-access-token:{credential}".encode()).decode()
        # Set the header only for this host, so that git does not send the credential to another host after a redirect.
        config[f"http.{url.split('/', 3)[0]}//{url.split('/', 3)[2]}/.extraHeader"] = f"Authorization: Basic {basic}"
    variables = environment(config)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"):
        if name in os.environ:
            variables[name] = os.environ[name]
    return variables


def _tail(file: IO[bytes]) -> bytes:
    # Use pread() instead of seek(), because the running git process writes at the same file position.
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), STDERR_READ, max(size - STDERR_READ, 0))


def _progress(text: bytes) -> tuple[int, int]:
    found = _PROGRESS.findall(text)
    return (int(found[-1][0]), int(found[-1][1])) if found else (0, 0)


def _size(folder: Path) -> int:
    """Return the folder's size in bytes."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(root) / name).stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # git has renamed or removed it since it was listed
    return total


def _error(text: bytes, status: int, *, has_credential: bool) -> GitHubError:
    """Return the exception for a failed git command, without git's possibly hostile messages."""
    lower = text.lower()
    is_forbidden = b"returned error: 403" in lower
    is_limited = b"remote error" in lower and git_protocol.is_limit(lower.decode("ascii", "replace"))
    if is_limited or b"returned error: 429" in lower or (is_forbidden and b"rate limit" in lower):
        return RateLimited("rate_limited", "git requests are limited", retry_after=SECONDARY_LIMIT_SECONDS)
    if b"returned error: 451" in lower or (is_forbidden and is_blocked(lower)):
        return NotFound("blocked", "access to the repository is blocked")
    if b"not our ref" in lower:
        return Unavailable("not_our_ref", "the git server has no such object")
    if b"not found" in lower or b"returned error: 404" in lower:
        return NotFound("not_found", "there is no such public repository")
    if re.search(rb"returned error: 30[1278]\b", lower):
        return NotFound("moved", "the repository has moved to another address")
    if b"could not read username" in lower or b"returned error: 401" in lower or b"authentication failed" in lower:
        if has_credential:
            return BadCredential("bad_credential", "git access is refused: check the GitHub credential")
        # GitHub asks for a user name if a repository does not exist and the request has no credential.
        return NotFound("not_found", "there is no such public repository")
    if is_forbidden:
        return Forbidden("forbidden", "git access is forbidden", retry_after=FORBIDDEN_SECONDS)
    if re.search(rb"returned error: 5\d\d\b", lower):
        return Unavailable("http_5xx", "the git server has failed")
    if b"remote error" not in lower and any(words in lower for words in _BROKEN):
        return Unavailable("connection", "the git server cannot be reached, or the connection broke off")
    return Unavailable("clone_failed", f"git clone ended with status {status}")

"""A client for git's smart HTTP protocol v2: https://git-scm.com/docs/gitprotocol-v2

It lists branches and tags, and fetches packs.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from scanner.github.client import GitHub, check_status
from scanner.github.errors import Malformed, NotFound, RateLimited, Unavailable
from scanner.github.rate_limit import retry_after
from scanner.github.request_rate import HALVE_PAUSE_SECONDS
from scanner.github.transport import beginning
from scanner.github.urls import git_url

MAX_REFS = 50_000
MAX_REFS_BYTES = 16 * 1024 * 1024
EXCHANGE_SECONDS = 120.0
MAX_REDIRECTS = 5
AGENT = b"agent=r8scan"

PAUSE_SECONDS = HALVE_PAUSE_SECONDS
"""No git request is sent for this long after a refusal, unless GitHub tells how long to wait."""
EDGE_MESSAGE = "x-github-edge-message"
"""GitHub sends this header if a rate limit stops a request before it reaches git."""

_LIMIT = re.compile(r"temporarily limiting|rate limit|was rate-limited|too many requests", re.IGNORECASE)
"""Phrases of an ERR line that mean a rate limit: https://github.com/orgs/community/discussions/206581"""
_LENGTH = re.compile(rb"[0-9a-fA-F]{4}")
_OBJECT_ID = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")

_HEADERS = {
    "Git-Protocol": "version=2",
    "Content-Type": "application/x-git-upload-pack-request",
    "Accept": "application/x-git-upload-pack-result",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Refs:
    """The branches and tags of a repository, with their object ids. `head` is the default branch, or None."""

    oids: dict[str, str]
    head: str | None
    is_truncated: bool = False


@dataclass(frozen=True, slots=True)
class ReceivedPack:
    """A git pack from a server. `hash_name` is "sha1" or "sha256".

    If the pack is larger than the limit, `content` is only its beginning.
    """

    content: bytes = field(repr=False)
    hash_name: str


class _Flush:
    """A protocol line without content, which marks the end of a section."""


FLUSH, DELIMITER = _Flush(), _Flush()


def pkt_line(content: bytes) -> bytes:
    """Return the content as a line of git's protocol (pkt-line), which begins with its length."""
    return f"{len(content) + 4:04x}".encode() + content


def pkt_lines(chunks: Iterable[bytes]) -> Iterator[bytes | _Flush]:
    """Yield the lines of git's protocol (pkt-lines) in a stream.

    Raises:
        Malformed: The length of a line is not valid.
        Unavailable: The stream ends inside a line.
    """
    buffer, position = bytearray(), 0
    for chunk in chunks:
        del buffer[:position]
        position = 0
        buffer += chunk
        while len(buffer) - position >= 4:
            length = _length(buffer[position : position + 4])
            if length < 4:
                position += 4
                yield DELIMITER if length == 1 else FLUSH
            elif len(buffer) - position < length:
                break
            else:
                yield bytes(buffer[position + 4 : position + length])
                position += length
    if len(buffer) > position:
        raise Unavailable("git_cut_off", "the git server's answer was cut off")


def _length(digits: bytearray) -> int:
    """Return the value of four hexadecimal digits."""
    if not _LENGTH.fullmatch(digits) or digits == b"0003":
        raise Malformed("git_protocol", "the git server does not speak the git protocol")
    return int(digits, 16)


def list_refs(github: GitHub, repository: str, *, hash_name: str = "sha1", prefix: str = "") -> Refs:
    """Return the branches and tags of a repository, up to MAX_REFS, and the default branch.

    Args:
        repository: Owner and name.
        hash_name: "sha1" or "sha256".
        prefix: Return only HEAD and the refs whose full names begin with this text.

    Raises:
        GitHubError: GitHub gave no usable answer.
    """
    body = [b"command=ls-refs\n", AGENT, _format(hash_name), b"0001", b"symrefs\n", b"peel\n"]
    # Ask only for branches and tags, because the server would list many refs of pull requests before the tags.
    prefixes = [prefix.encode("utf-8", "surrogateescape")] if prefix else [b"refs/heads/", b"refs/tags/"]
    body += [b"ref-prefix %s\n" % one for one in (b"HEAD", *prefixes)]
    with _exchange(github, repository, body) as chunks:
        oids: dict[str, str] = {}
        head, size = None, 0
        for line in pkt_lines(chunks):
            if isinstance(line, _Flush):
                return Refs(oids, head)
            _refuse_errors(line)
            size += len(line)
            if len(oids) >= MAX_REFS or size > MAX_REFS_BYTES:
                return Refs(oids, head, is_truncated=True)
            oid, _, rest = line.rstrip(b"\n").partition(b" ")
            name, *attributes = rest.split(b" ")
            if name == b"HEAD":
                target = next((a[14:] for a in attributes if a.startswith(b"symref-target:")), None)
                head = _text(target) if target else None
            elif _OBJECT_ID.fullmatch(oid):
                oids[_text(name)] = _text(oid)
    raise Unavailable("git_cut_off", "the git server's list of refs was cut off")


def fetch(
    github: GitHub,
    repository: str,
    wants: Sequence[str],
    haves: Collection[str],
    *,
    max_bytes: int,
    blob_limit: int | None = None,
    commits_within: int | None = None,
) -> ReceivedPack:
    """Fetch, in one request, a pack of all objects that are reachable from `wants` but not from `haves`.

    Args:
        repository: Owner and name.
        wants: Ids of the commits or tags to fetch; at least one.
        haves: Ids of commits whose objects are already known.
        max_bytes: Stop receiving when the pack is larger than this.
        blob_limit: Leave out blobs larger than this (bytes). Only if `can_filter` is True.
        commits_within: Fetch only commits and tags, up to this many commits deep. Only if `can_filter` is True.

    Raises:
        GitHubError: The server refused, or its answer contains no pack.
    """
    hash_name = "sha256" if len(wants[0]) == 64 else "sha1"
    body = [b"command=fetch", AGENT, _format(hash_name), b"0001", b"no-progress", b"ofs-delta"]
    if blob_limit is not None:
        body.append(f"filter blob:limit={blob_limit}".encode())
    if commits_within is not None:
        body += [b"filter tree:0", f"deepen {commits_within}\n".encode()]
    body += [f"want {oid}\n".encode() for oid in wants]
    body += [f"have {oid}\n".encode() for oid in haves]
    body.append(b"done\n")
    with _exchange(github, repository, body) as chunks:
        lines = pkt_lines(chunks)
        for line in lines:
            if line is FLUSH:
                break
            if isinstance(line, _Flush):
                continue
            _refuse_errors(line)
            if line.rstrip(b"\n") == b"packfile":
                return ReceivedPack(_up_to(max_bytes, _sideband(lines)), hash_name)
        raise Malformed("git_no_pack", "the git server sent no pack")


def _up_to(max_bytes: int, chunks: Iterable[bytes]) -> bytes:
    """Return the joined chunks. Stop after the chunk that exceeds `max_bytes`."""
    received = io.BytesIO()  # getvalue() shares the buffer instead of copying it
    for chunk in chunks:
        received.write(chunk)
        if received.tell() > max_bytes:
            break
    return received.getvalue()


def can_filter(github: GitHub, repository: str) -> bool:
    """Return whether the git server can leave out objects, for example large blobs.

    Raises:
        GitHubError: GitHub gave no usable answer.
    """
    url = f"{git_url(github.web_url, repository)}/info/refs"
    headers = {"Git-Protocol": "version=2", "Accept-Encoding": "identity"}
    with _answer(github, "GET", url, {"service": "git-upload-pack"}, headers, None) as chunks:
        for line in pkt_lines(chunks):
            if isinstance(line, bytes):
                _refuse_errors(line)
                if line.startswith(b"fetch="):
                    return b"filter" in line.split(b"=", 1)[1].split()
    return False


def is_limit(words: str) -> bool:
    """Return whether git's error message reports a rate limit."""
    return _LIMIT.search(words) is not None


def _sideband(lines: Iterable[bytes | _Flush]) -> Iterator[bytes]:
    """Yield the bytes of the pack in a git server's answer. Stop silently if the answer breaks off."""
    try:
        for line in lines:
            if isinstance(line, _Flush):
                return
            if line[:1] == b"\x01":
                yield line[1:]
            elif line[:1] == b"\x03":
                return
    except (httpx.HTTPError, Unavailable, Malformed):
        return


@contextmanager
def _exchange(github: GitHub, repository: str, body: Sequence[bytes]) -> Iterator[Iterator[bytes]]:
    content = b"".join(part if part == b"0001" else pkt_line(part) for part in body if part) + b"0000"
    url = f"{git_url(github.web_url, repository)}/git-upload-pack"
    with _answer(github, "POST", url, None, _HEADERS, content) as chunks:
        yield chunks


@contextmanager
def _answer(
    github: GitHub,
    method: str,
    url: str,
    params: dict[str, str] | None,
    headers: dict[str, str],
    content: bytes | None,
) -> Iterator[Iterator[bytes]]:
    """Send a request to a git server, and yield an iterator of the answer's chunks."""
    deadline = time.monotonic() + EXCHANGE_SECONDS
    try:
        # Follow redirects here, because httpx would turn the POST into a GET. A renamed repository is redirected with
        # 301.
        for _ in range(MAX_REDIRECTS):
            with github.http.stream(
                method,
                url,
                params=params,
                headers=headers,
                content=content,
                follow_redirects=False,
                extensions={"reserve": github.reserve},
            ) as response:
                if response.next_request is None:
                    _check(response, github)
                    with _limits_told(response, github):
                        yield _until(response.iter_raw(), deadline, github)
                    return
                url, params = str(response.next_request.url), None
    except httpx.HTTPError as err:
        host = httpx.URL(url).host
        raise Unavailable("connection", f"{host} cannot be reached ({type(err).__name__})") from err
    raise Malformed("too_many_redirects", f"{httpx.URL(url).host} redirects in circles")


def _check(response: httpx.Response, github: GitHub) -> None:
    if response.status_code < 300:
        return
    start = beginning(response)
    host = response.request.url.host
    if EDGE_MESSAGE in response.headers and response.status_code in (403, 503):
        raise _limit(response, github)
    if response.status_code == 401 and github.credential.token() is None:
        # Without a credential, the git server answers 401 if the repository is private or deleted.
        raise NotFound("not_found", f"{host} answered 401")
    if response.status_code == 401 and not github.gate.is_rejected():
        # The API still accepts the credential, so only this repository is affected.
        raise Unavailable("git_unauthorized", f"{host} answered 401 to git")
    check_status(response, start, github.credential_label)


@contextmanager
def _limits_told(response: httpx.Response, github: GitHub) -> Iterator[None]:
    """Raise RateLimited if the answer read in the `with` block reports a rate limit."""
    try:
        yield
    except Malformed as err:
        if EDGE_MESSAGE not in response.headers and not (err.reason == "git_refused" and is_limit(err.detail)):
            raise
        raise _limit(response, github) from err


def _limit(response: httpx.Response, github: GitHub) -> RateLimited:
    """Record the rate limit that a git server reports, and return the error for it."""
    host = response.request.url.netloc.decode()
    seconds = retry_after(response) or PAUSE_SECONDS
    limit = RateLimited("rate_limited", f"{host} limits git requests", retry_after=seconds)
    github.gate.note_result(host, "git", limit)
    return limit


def _until(chunks: Iterator[bytes], deadline: float, github: GitHub) -> Iterator[bytes]:
    try:
        for chunk in chunks:
            if time.monotonic() > deadline:
                break
            yield chunk
        else:
            return
    except (httpx.HTTPError, Unavailable):
        github.gate.note_broken("git")
        raise
    github.gate.note_broken("git")
    raise Unavailable("git_too_slow", f"the git server's answer took longer than {EXCHANGE_SECONDS:.0f} s")


def _refuse_errors(line: bytes) -> None:
    if line.startswith(b"ERR "):
        raise Malformed("git_refused", "the git server refused the request", detail=_text(line[4:2000]))


def _format(hash_name: str) -> bytes:
    return b"object-format=sha256" if hash_name == "sha256" else b""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")

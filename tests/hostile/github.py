"""A simulated GitHub to which a test can add hostile events, packs and gists."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tests.benchmarks.firehose import Connection, Firehose, Objects, Prepared, pkt_line
from workers.sandbox import github_forms
from workers.sandbox.alert_signer import AlertSigner

PERSON = "Ana <ana@example.com> 1700000000 +0000"


class HostileGitHub(Firehose):
    """A simulated GitHub with prepared pushes that appear at a given rate."""

    def __init__(self, pushes: list[Prepared] | None = None, rate: float = 1.0) -> None:
        super().__init__(pushes or [], rate, 0.0)
        self.url = ""
        self.signer = AlertSigner()
        self._gists: list[dict[str, Any]] = []
        self._files: dict[bytes, bytes] = {}
        self._numbers = itertools.count(1)
        self._waiting: list[Prepared] = []
        self._raw: list[bytes] = []

    def show(self, *pushes: Prepared) -> None:
        """Add these events to the public timeline."""
        self._waiting.extend(pushes)

    def show_raw(self, content: bytes) -> None:
        """Add an event with hostile JSON to the public timeline.

        `content` is a JSON object without an id, a time and a repository.
        """
        number = next(_numbers)
        repo = f'{{"id": {9_000_000 + number}, "name": "hostile/project{number}"}}'
        stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        head = f'{{"id": "{90_000_000_000 + number}", "created_at": "{stamp}", "repo": {repo}, '
        self._raw.append(head.encode() + content[1:])

    def show_gist(self, files: dict[str, bytes]) -> None:
        """Add a public gist with these files. `files` has each file's content by its name."""
        gist_id = f"{next(self._numbers):032x}"
        listed: dict[str, Any] = {}
        for name, content in files.items():
            oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            path = f"/gist-raw/ana/{gist_id}/raw/{oid}/{name}"
            self._files[path.encode()] = content
            listed[name] = {"filename": name, "raw_url": f"{self.url}{path}", "size": len(content)}
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        owner = github_forms.user(f"{self.url}/api", "ana")
        gist = {"id": gist_id, "files": listed, "updated_at": now, "created_at": now, "owner": owner, "public": True}
        self._gists.insert(0, {**gist, "html_url": f"{self.url}/gist/{gist_id}", "description": None})

    def answer(self, target: bytes, headers: bytes, body: bytes) -> tuple[bytes, bytes, bytes]:
        """Return the status line, more header lines and the body of the response.

        `target` is the path and query of the request.
        """
        json_type = b"Content-Type: application/json\r\n"
        path = target.partition(b"?")[0]
        if path == b"/api/events":
            self._show_waiting()
        if path == b"/api/gists/public":
            return b"200 OK", json_type, json.dumps(self._gists[:100]).encode()
        if path == b"/api/meta/public_keys/secret_scanning":
            return b"200 OK", json_type, json.dumps({"public_keys": [self.signer.public_key()]}).encode()
        if path in self._files:
            return b"200 OK", b"Content-Type: text/plain\r\n", self._files[path]
        answer = super().answer(target, headers, body)
        return _unless_known(answer, headers) if path == b"/api/events" else answer

    def _show_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        raw, self._raw = self._raw, []
        self.window.extendleft(raw)
        now = time.time()
        for push in waiting:
            self.by_name[push.event["repo"]["name"].encode()] = push
            if push.head:
                self.by_head[push.head.encode()] = push
            stamp = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}"
            self.window.appendleft(json.dumps({**push.event, "created_at": stamp}).encode())
            if push.token:
                self.visible[push.token] = now


def _unless_known(answer: tuple[bytes, bytes, bytes], headers: bytes) -> tuple[bytes, bytes, bytes]:
    """Add an ETag to the answer, or answer with status 304 if the client has this body already."""
    status, more, body = answer
    tag = b'"%s"' % hashlib.sha256(body).hexdigest().encode()
    if b"if-none-match: " + tag in headers.lower():
        return b"304 Not Modified", more, b""
    return status, more + b"ETag: " + tag + b"\r\n", body


_numbers = itertools.count(1)


def event(kind: str, payload: object, token: str | None = None) -> Prepared:
    """Return an event of the type `kind` in a new repository. `token` is the token that it leaks, if any."""
    number = next(_numbers)
    name = f"hostile/project{number}"
    shown = {
        "id": str(90_000_000_000 + number),
        "type": kind,
        "actor": {"id": 1, "login": "hostile"},
        "repo": {"id": 9_000_000 + number, "name": name},
        "payload": payload,
        "public": True,
    }
    return Prepared(shown, "", b"", None, token)


def comment(body: str, token: str | None = None) -> Prepared:
    """Return the event of a comment on an issue. `token` is the token that it leaks, if any."""
    return event("IssueCommentEvent", {"action": "created", "issue": {"title": "x"}, "comment": {"body": body}}, token)


def push(files: dict[bytes, bytes], token: str | None = None) -> Prepared:
    """Return a push of one commit.

    Args:
        files: The content of each file, by its name.
        token: The token that the files leak, if any.
    """
    objects = Objects()
    tree = b"".join(
        b"100644 " + name + b"\0" + bytes.fromhex(objects.add("blob", content)) for name, content in files.items()
    )
    root = objects.add("tree", tree)
    number = next(_numbers)
    text = f"tree {root}\nparent {number:040x}\nauthor {PERSON}\ncommitter {PERSON}\n\nchange {number}\n"
    head = objects.add("commit", text.encode())
    return push_of_pack(objects.pack(), head, f"{number:040x}", token)


def push_of_pack(pack: bytes, head: str, before: str = "0" * 39 + "1", token: str | None = None) -> Prepared:
    """Return a push from the commit `before` to the commit `head`. git's response to a fetch is `pack`."""
    payload = {"push_id": next(_numbers), "ref": "refs/heads/main", "head": head, "before": before}
    shown = event("PushEvent", payload, token)
    payload["repository_id"] = shown.event["repo"]["id"]
    lines = [pkt_line(b"\x01" + pack[at : at + 60_000]) for at in range(0, len(pack), 60_000)]
    shown.head, shown.pack = head, pkt_line("packfile\n") + b"".join(lines) + b"0000"
    return shown


@contextmanager
def running(github: HostileGitHub) -> Iterator[HostileGitHub]:
    """Serve `github` on a local port until the `with` block ends. `github.url` is then its URL."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(loop.create_server(lambda: Connection(github), "127.0.0.1", 0))
        github.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        loop.run_forever()
        server.close()

    thread = threading.Thread(target=serve, name="hostile-github", daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield github
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

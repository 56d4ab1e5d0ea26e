"""A simulated GitHub with prepared answers. Pushes appear on its timeline at a given rate.

Run: python -m tests.benchmarks.firehose --pushes N --rate R --leaks L --delay S --out FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import re
import string
import time
import zlib
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TYPES = {"commit": 1, "tree": 2, "blob": 3}
WINDOW = 300
WORDS = ["def", "return", "import", "self", "value", "client", "result", "request", "data", "model", "path", "name"]


@dataclass
class Prepared:
    """A push with GitHub's answers about it.

    Attributes:
        event: The push's event on the timeline.
        head: The id of the push's last commit.
        pack: git's response to a fetch.
        refs: git's response to a request for refs, or None if it is empty.
        token: The token that the push leaks, or None.
    """

    event: dict[str, Any]
    head: str
    pack: bytes
    refs: bytes | None = None
    token: str | None = None


@dataclass
class Objects:
    """Builds a git pack of objects, in the order in which they were added."""

    entries: list[bytes] = field(default_factory=list)

    def add(self, kind: str, content: bytes) -> str:
        size, first = len(content), TYPES[kind] << 4 | len(content) & 15
        head = bytearray()
        size >>= 4
        while size:
            head.append(first | 0x80)
            first, size = size & 0x7F, size >> 7
        head.append(first)
        self.entries.append(bytes(head) + zlib.compress(content, 1))
        return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()

    def pack(self) -> bytes:
        body = b"PACK" + (2).to_bytes(4, "big") + len(self.entries).to_bytes(4, "big") + b"".join(self.entries)
        return body + hashlib.sha1(body).digest()


def random_token(chance: random.Random) -> str:
    return "r8_" + "".join(chance.choices(string.ascii_letters + string.digits, k=37))


def source_text(chance: random.Random, lines: int = 120) -> str:
    return "\n".join("    " + " ".join(chance.choices(WORDS, k=6)) for _ in range(lines)) + "\n"


def prepare(count: int, leaks: int, seed: int = 1) -> list[Prepared]:
    """Return `count` pushes of one to three commits each. `leaks` of them, at even distances, contain a token."""
    chance = random.Random(seed)
    texts = [source_text(chance) for _ in range(200)]
    folder = b"".join(b"100644 file%d.py\0" % number + chance.randbytes(20) for number in range(20))
    every = max(count // leaks, 1) if leaks else count + 1
    return [_push(number, chance, texts, folder, number % every == every // 2) for number in range(count)]


def _push(number: int, chance: random.Random, texts: list[str], folder: bytes, leaks: bool) -> Prepared:
    objects = Objects()
    before = chance.randbytes(20).hex()
    commits = chance.randint(1, 3)
    token = random_token(chance) if leaks else None
    form = number % 3 if leaks else 0
    commits = max(commits, 2) if form == 1 else commits
    head = before
    for step in range(commits):
        text = f"# {number} {step}\n" + chance.choice(texts)
        if token and (step == 0 if form == 1 else step == commits - 1):
            text = text.replace("\n", f'\nclient = Client(api_token="{token}")\n', 1)
        blob = objects.add("blob", text.encode())
        inner = objects.add("tree", b"100644 app.py\0" + bytes.fromhex(blob) + folder)
        root = objects.add("tree", folder + b"40000 src\0" + bytes.fromhex(inner))
        parent = f"parent {head}\n" if head != before or form != 2 else ""
        person = "Ana <ana@example.com> 1700000000 +0000"
        commit = f"tree {root}\n{parent}author {person}\ncommitter {person}\n\nchange {number}.{step}\n"
        head = objects.add("commit", commit.encode())
    name, repository_id = f"user{number % 997}/project{number}", 1_000_000 + number
    payload: dict[str, Any] = {
        "repository_id": repository_id,
        "push_id": 5_000_000 + number,
        "ref": "refs/heads/main",
        "head": head,
        "before": before,
    }
    refs = None
    if form == 2:
        payload = {"ref": "main", "ref_type": "branch", "full_ref": "refs/heads/main", "master_branch": "main"}
        refs = b"".join(
            pkt_line(line) for line in (f"{head} HEAD symref-target:refs/heads/main\n", f"{head} refs/heads/main\n")
        )
    event = {
        "id": str(40_000_000_000 + number),
        "type": "CreateEvent" if form == 2 else "PushEvent",
        "actor": {"id": 1, "login": f"user{number % 997}"},
        "repo": {"id": repository_id, "name": name, "url": f"https://api.github.com/repos/{name}"},
        "payload": payload,
        "public": True,
    }
    packet = objects.pack()
    answer = pkt_line("packfile\n") + b"".join(
        pkt_line(b"\x01" + packet[at : at + 60_000]) for at in range(0, len(packet), 60_000)
    )
    return Prepared(event, head, answer + b"0000", refs and refs + b"0000", token)


def pkt_line(content: str | bytes) -> bytes:
    """Return the content as a packet line of git's protocol."""
    data = content.encode() if isinstance(content, str) else content
    return b"%04x" % (len(data) + 4) + data


class Firehose:
    """The simulated GitHub, which shows one push after the other.

    The constructor takes the pushes, the number of pushes a second, and the delay of each git response in seconds.
    """

    def __init__(self, pushes: list[Prepared], rate: float, delay: float) -> None:
        self.pushes, self.rate, self.delay = pushes, rate, delay
        self.by_head = {push.head.encode(): push for push in pushes}
        self.by_name = {push.event["repo"]["name"].encode(): push for push in pushes}
        self.window: deque[bytes] = deque(maxlen=WINDOW)
        self.visible: dict[str, float] = {}
        self.shown = 0
        self.started = 0.0
        self.served = 0
        self.served_tokens: set[str] = set()
        self.etag = b""

    def flow(self) -> None:
        """Add the events that are due now to the timeline."""
        if not self.started:
            return
        due = min(int((time.time() - self.started) * self.rate), len(self.pushes))
        for number in range(self.shown, due):
            # Give the event the time at which it was due, because this method may be called later.
            push, now = self.pushes[number], self.started + number / self.rate
            stamp = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}"
            self.window.appendleft(json.dumps({**push.event, "created_at": stamp}).encode())
            if push.token:
                self.visible[push.token] = now
        self.shown = max(due, self.shown)

    def answer(self, target: bytes, headers: bytes, body: bytes) -> tuple[bytes, bytes, bytes]:
        """Return the status line, more header lines and the body of a response."""
        if target.startswith(b"/api/events"):
            self.flow()
            page = int(re.search(rb"[?&]page=(\d+)", target)[1])  # type: ignore[index]
            listed = list(self.window)[(page - 1) * 100 : page * 100]
            return (
                b"200 OK",
                b"X-Poll-Interval: 1\r\nContent-Type: application/json\r\n",
                b"[" + b",".join(listed) + b"]",
            )
        if target.endswith(b"/git-upload-pack"):
            if b"command=ls-refs" in body:
                name = target[1:].removesuffix(b".git/git-upload-pack")
                return b"200 OK", b"", self.by_name[name].refs or b"0000"
            wanted = re.search(rb"want ([0-9a-f]{40})", body)
            push = self.by_head.get(wanted[1]) if wanted else None
            if push is not None:
                self.served += 1
                if push.token:
                    self.served_tokens.add(push.token)
                return b"200 OK", b"", push.pack
        if target == b"/start":
            self.started = time.time()
            return b"200 OK", b"", b""
        if target == b"/state":
            state = {"shown": self.shown, "served": self.served, "visible": self.visible, "now": time.time()}
            state["served_leaks"] = len(self.served_tokens)
            return b"200 OK", b"", json.dumps(state).encode()
        return b"404 Not Found", b"", b"{}"


class Connection(asyncio.Protocol):
    """One connection of the HTTP/1.1 server. It supports only what r8scan's client needs."""

    def __init__(self, firehose: Firehose) -> None:
        self.firehose, self.buffer = firehose, b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < total:
                return
            body, self.buffer = self.buffer[end + 4 : total], self.buffer[total:]
            status, headers, content = self.firehose.answer(head.split(b" ", 2)[1], head, body)
            answer = b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, headers, len(content)) + content
            if self.firehose.delay and b"upload-pack" in head:
                asyncio.get_running_loop().call_later(self.firehose.delay, self._send, answer)
            else:
                self._send(answer)

    def _send(self, answer: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer)


async def serve(firehose: Firehose, ready: Path) -> None:
    """Serve until the process is killed. Write the URL to the file `ready`."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(firehose), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    partial = ready.with_suffix(".partial")
    partial.write_text(f"http://127.0.0.1:{port}")
    partial.rename(ready)
    await server.serve_forever()


def main() -> None:
    """Prepare the pushes, write the leaked tokens to a file for the benchmark, and serve the simulated GitHub."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pushes", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--leaks", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    pushes = prepare(options.pushes, options.leaks)
    tokens = [push.token for push in pushes if push.token]
    (options.out / "tokens").write_text("\n".join(tokens))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Firehose(pushes, options.rate, options.delay), options.out / "address"))


if __name__ == "__main__":
    main()

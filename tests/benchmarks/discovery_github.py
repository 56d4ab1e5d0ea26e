"""A simulated GitHub with prepared answers, a list of new repositories, and quotas.

Its search index shows each push only after a delay.

Run: python -m tests.benchmarks.discovery_github --pushes N --rate R --leaks L --lag S --new R --out FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import time
from bisect import bisect_right
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

from tests.benchmarks import firehose
from tests.benchmarks.firehose import Firehose, Prepared, pkt_line
from workers.sandbox import graphql
from workers.sandbox.graphql import GraphQL
from workers.sandbox.repository_index import RepositoryIndex

PUSHES_SHOWN = 95
FIRST_NEW_ID = 2_000_000
MAX_CREATED_BEFORE = 30.0
"""The maximum number of seconds from the creation of a new repository to its first push."""
CREATED_LONG_AGO = 400 * 86400.0
QUOTAS = {"core": (5000, 3600), "graphql": (5000, 3600), "search": (30, 60)}
ROUTES = {
    "/api/events": "core",
    "/api/repositories": "core",
    "/api/graphql": "graphql",
    "/api/search/repositories": "search",
}
POLL_INTERVAL = 60
LIST_SIZE = 100


class DiscoveryGitHub(Firehose):
    """A simulated GitHub that counts the use of its quotas."""

    def __init__(self, pushes: list[Prepared], rate: float, lag: float, new: float, address: str = "") -> None:
        super().__init__(pushes, rate, 0.0)
        self.index = RepositoryIndex(lag=lag)
        self.graphql = GraphQL(self.index, self._node, self._number_of)
        self.used: Counter[str] = Counter()
        self.windows: dict[str, tuple[float, int]] = {}
        self.refused = 0
        self.ids: dict[int, int] = {}
        self.created_before = self._seconds_before_first_push(len(pushes), new / rate)
        by_creation = sorted(
            (number / rate - before, number)
            for number, before in enumerate(self.created_before)
            if before <= MAX_CREATED_BEFORE
        )
        self.new_times = [at for at, _ in by_creation]
        self.new_numbers = [number for _, number in by_creation]
        for place, number in enumerate(self.new_numbers):
            self._rename(number, FIRST_NEW_ID + place)
        for number, push in enumerate(pushes):
            self.ids[push.event["repo"]["id"]] = number
            push.refs = push.refs or _refs(push.head)

    def _seconds_before_first_push(self, pushes: int, share_new: float) -> list[float]:
        """For each push, return the seconds from the creation of its repository until the push."""
        chance, found = random.Random(2), []
        for _ in range(pushes):
            is_new = chance.random() < share_new
            found.append(chance.random() * MAX_CREATED_BEFORE if is_new else CREATED_LONG_AGO)
        return found

    def _rename(self, number: int, repository_id: int) -> None:
        event = self.pushes[number].event
        event["repo"]["id"] = repository_id
        if "repository_id" in event["payload"]:
            event["payload"]["repository_id"] = repository_id

    def flow(self) -> None:
        before = self.shown
        super().flow()
        for number in range(before, self.shown):
            self.index.push(self.pushes[number].event["repo"]["id"], self.started + number / self.rate)

    def answer(self, target: bytes, headers: bytes, body: bytes) -> tuple[bytes, bytes, bytes]:
        parts = urlsplit(target.decode())
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        resource = ROUTES.get(parts.path)
        if resource is None:
            return self._extended() if target == b"/state" else super().answer(target, headers, body)
        self.flow()
        limits, is_spent = self._spend(resource)
        if is_spent:
            self.refused += 1
            return b"403 Forbidden", limits, b'{"message": "API rate limit exceeded"}'
        value = self._value(parts.path, query, body)
        if parts.path == "/api/repositories" and len(value) == LIST_SIZE:
            host = re.search(rb"(?i)\r\nhost: ([^\r]+)", headers)
            following = b"http://%s/api/repositories?since=%d" % (host[1] if host else b"", value[-1]["id"])
            limits += b'Link: <%s>; rel="next"\r\n' % following
        return b"200 OK", limits + b"Content-Type: application/json\r\n", json.dumps(value).encode()

    def _value(self, path: str, query: dict[str, str], body: bytes) -> Any:
        if path == "/api/events":
            return self._events(query)
        if path == "/api/repositories":
            return self._list(int(query.get("since", 0)))
        if path == "/api/graphql":
            return self.graphql.answer(json.loads(body), is_spent=False)
        return self._search(query)

    def _extended(self) -> tuple[bytes, bytes, bytes]:
        status, headers, body = super().answer(b"/state", b"", b"")
        more = {"used": dict(self.used), "refused": self.refused, "started": self.started}
        return status, headers, json.dumps({**json.loads(body), **more}).encode()

    def _spend(self, resource: str) -> tuple[bytes, bool]:
        limit, seconds = QUOTAS[resource]
        now = time.time()
        until, used = self.windows.get(resource, (0.0, 0))
        if now >= until:
            until, used = now + seconds, 0
        self.windows[resource] = until, used + 1
        self.used[resource] += 1
        fields = {"limit": limit, "remaining": max(limit - used - 1, 0), "reset": int(until), "resource": resource}
        lines = "".join(f"X-RateLimit-{name.title()}: {value}\r\n" for name, value in fields.items())
        return lines.encode() + b"X-Poll-Interval: %d\r\n" % POLL_INTERVAL, used >= limit

    def _events(self, query: dict[str, str]) -> list[Any]:
        shown = list(self.window)[:PUSHES_SHOWN] if query.get("page", "1") == "1" else []
        return [json.loads(event) for event in shown]

    def _list(self, since: int) -> list[dict[str, Any]]:
        now = time.time() - self.started if self.started else -1e9
        there = self.new_numbers[: bisect_right(self.new_times, now)]
        first = max(since - FIRST_NEW_ID + 1, 0)
        listed = [self._described(number) for number in there[first : first + LIST_SIZE]]
        return listed or ([self._described(0)] if since < 1 else [])

    def _described(self, number: int) -> dict[str, Any]:
        repo = self.pushes[number].event["repo"]
        return {"id": repo["id"], "node_id": f"R_{repo['id']}", "full_name": repo["name"], "fork": False}

    def _search(self, query: dict[str, str]) -> dict[str, Any]:
        found = self.graphql.index_matches(unquote_plus(query.get("q", "")))
        page, size = int(query.get("page", 1)), int(query.get("per_page", 30))
        nodes = [self._node(one) or {} for one in found[:1000][(page - 1) * size : page * size]]
        items = [
            {**self._described(self.ids[node["databaseId"]]), "pushed_at": node["pushedAt"], "default_branch": "main"}
            for node in nodes
        ]
        return {"total_count": len(found), "incomplete_results": False, "items": items}

    def _node(self, repository_id: int) -> dict[str, Any] | None:
        number = self.ids.get(repository_id)
        if number is None:
            return None
        push, pushed_at = self.pushes[number], self.started + number / self.rate
        return graphql.node(
            number=repository_id,
            node_id=f"R_{repository_id}",
            name=push.event["repo"]["name"],
            pushed_at=pushed_at,
            created_at=pushed_at - self.created_before[number],
            branch="main",
            tip=push.head if number < self.shown else None,
        )

    def _number_of(self, node_id: str) -> int | None:
        number = node_id.removeprefix("R_")
        return int(number) if number.isdecimal() and int(number) in self.ids else None


def _refs(head: str) -> bytes:
    lines = (f"{head} HEAD symref-target:refs/heads/main\n", f"{head} refs/heads/main\n")
    return b"".join(pkt_line(line) for line in lines) + b"0000"


def new_repository_ids(pushes: int, rate: float, new: float) -> int:
    """Return how many of the pushes go to new repositories."""
    chance, count = random.Random(2), 0
    for _ in range(pushes):
        is_new = chance.random() < new / rate
        count += is_new
        if is_new:
            chance.random()
    return count


def main() -> None:
    """Prepare the pushes, write the leaked tokens to a file for the benchmark, and serve the simulated GitHub."""
    parser = argparse.ArgumentParser()
    for name, kind in (("pushes", int), ("rate", float), ("leaks", int), ("lag", float), ("new", float)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    pushes = firehose.prepare(options.pushes, options.leaks)
    (options.out / "tokens").write_text("\n".join(push.token for push in pushes if push.token))
    github = DiscoveryGitHub(pushes, options.rate, options.lag, options.new)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(firehose.serve(github, options.out / "address"))


if __name__ == "__main__":
    main()

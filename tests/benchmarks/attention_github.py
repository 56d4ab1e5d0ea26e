"""A simulated GitHub that answers only a limited number of git requests a second.

It shows properties of each push (new, fork, size, language …), from which r8scan estimates how likely a leak is.

Run: python -m tests.benchmarks.attention_github --pushes N --rate R --leaks L --lag S --git G --out FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import hashlib
import json
import random
import re
import shutil
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks import firehose
from tests.benchmarks.discovery_github import CREATED_LONG_AGO, MAX_CREATED_BEFORE, DiscoveryGitHub
from tests.benchmarks.firehose import Prepared, random_token, source_text
from tests.benchmarks.push_traits import LEAKING, ORDINARY, Traits, traits_of
from workers.sandbox import git_backend
from workers.sandbox.github_api import RateWindow, git_throttled

SMALL_KB = 1024
HISTORY_COMMITS = 60
"""The number of commits in the history that all large repositories share."""
ZEROS = "0" * 40
PERSON = "Ana <ana@example.com> 1700000000 +0000"


@dataclass
class LooseObjects:
    """Git objects by id. Each value is the object's header followed by its content."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def add(self, kind: str, content: bytes) -> str:
        whole = f"{kind} {len(content)}\0".encode() + content
        oid = hashlib.sha1(whole).hexdigest()
        self.contents[oid] = whole
        return oid

    def commit(self, text: str, parent: str, message: str) -> str:
        """Add a commit with the text in its only file, `app.py`. Return the commit's id."""
        blob = self.add("blob", text.encode())
        tree = self.add("tree", b"100644 app.py\0" + bytes.fromhex(blob))
        parents = f"parent {parent}\n" if parent else ""
        return self.add("commit", f"tree {tree}\n{parents}author {PERSON}\ncommitter {PERSON}\n\n{message}\n".encode())

    def write(self, repository: Path, head: str) -> None:
        """Write the objects into a bare repository, and make `head` the last commit of its branch `main`."""
        for oid, whole in self.contents.items():
            path = repository / "objects" / oid[:2] / oid[2:]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(whole, 1))
        (repository / "refs" / "heads").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "heads" / "main").write_text(f"{head}\n")


def history(texts: list[str]) -> tuple[LooseObjects, str]:
    """Return the git objects of a history with one commit per text, and the id of its newest commit."""
    objects, head = LooseObjects(), ""
    for number in range(HISTORY_COMMITS):
        head = objects.commit(texts[number % len(texts)], head, f"step {number}")
    return objects, head


class PlantedPushes:
    """Creates the pushes of the simulated GitHub. The same arguments give the same pushes."""

    def __init__(self, count: int, leaks: int) -> None:
        chance = random.Random(7)
        self.texts = [source_text(chance) for _ in range(50)]
        self.history, self.history_head = history(self.texts)
        leaking = set(chance.sample(range(count), leaks))
        self.tokens = {number: random_token(chance) for number in sorted(leaking)}
        self.traits = [traits_of(one, chance, LEAKING if one in leaking else ORDINARY) for one in range(count)]

    def is_large(self, number: int) -> bool:
        traits = self.traits[number]
        return traits.size_kb >= SMALL_KB and not traits.is_new

    def objects(self, number: int) -> tuple[LooseObjects, str, str]:
        """Return the push's git objects, the id of the commit before the push, and the id of its last commit.

        In a new repository, the id of the commit before the push is 40 zeros.
        """
        chance, token, objects = random.Random(number), self.tokens.get(number), LooseObjects()
        parent = self.history_head if self.is_large(number) else ""
        if not parent and not self.traits[number].is_new:
            parent = objects.commit(f"# {number}\n{chance.choice(self.texts)}", "", "begin")
        before, head = parent or ZEROS, parent
        steps = chance.randint(2, 3)
        # In half of the pushes with a leak, the last commit removes the token again.
        leak_step = steps - 1 - number % 2
        for step in range(steps):
            text = f"# {number} {step}\n{chance.choice(self.texts)}"
            if token and step == leak_step:
                text = text.replace("\n", f'\nclient = Client(api_token="{token}")\n', 1)
            head = objects.commit(text, head, f"change {number}.{step}")
        return objects, before, head

    def prepared(self, number: int) -> Prepared:
        """Return the push as GitHub's timeline shows it, without git data."""
        traits, repository_id = self.traits[number], 1_000_000 + number
        name = f"{traits.owner}/project{number}"
        _, before, head = self.objects(number)
        payload: dict[str, Any] = {"repository_id": repository_id, "push_id": number, "ref": "refs/heads/main"}
        payload |= {"head": head, "before": before}
        if traits.is_new:
            payload = {"ref": "main", "ref_type": "branch", "full_ref": "refs/heads/main", "master_branch": "main"}
        event = {
            "id": str(40_000_000_000 + number),
            "type": "CreateEvent" if traits.is_new else "PushEvent",
            "actor": {"id": 1, "login": traits.owner},
            "repo": {"id": repository_id, "name": name, "url": f"https://api.github.com/repos/{name}"},
            "payload": payload,
            "public": True,
        }
        return Prepared(event, head, b"", None, self.tokens.get(number))


class AttentionGitHub(DiscoveryGitHub):
    """A simulated GitHub with real git servers, which answer a limited number of requests a second."""

    def __init__(self, planted: PlantedPushes, rate: float, lag: float, git_per_second: int, folder: Path) -> None:
        self.planted, self.folder = planted, folder
        pushes = [planted.prepared(number) for number in range(len(planted.traits))]
        super().__init__(pushes, rate, lag, 0.0)
        self.git: Counter[str] = Counter()
        self._limit, self._window = git_per_second, RateWindow(1)
        self._numbers = {push.event["repo"]["name"]: number for number, push in enumerate(pushes)}
        git_backend.create_bare(folder / "template", allow_filter=True)
        shutil.copytree(folder / "template", folder / "history")
        planted.history.write(folder / "history", planted.history_head)

    def _seconds_before_first_push(self, pushes: int, share_new: float) -> list[float]:
        del share_new
        chance = random.Random(2)
        before = [chance.random() * MAX_CREATED_BEFORE for _ in range(pushes)]
        return [
            seconds if traits.is_new else CREATED_LONG_AGO
            for seconds, traits in zip(before, self.planted.traits, strict=True)
        ]

    def answer(self, target: bytes, headers: bytes, body: bytes) -> tuple[bytes, bytes, bytes]:
        parts = urlsplit(target.decode())
        found = re.fullmatch(r"/([^/]+/[^/]+)\.git/(info/refs|git-upload-pack)", parts.path)
        if found is None:
            return super().answer(target, headers, body)
        number = self._numbers.get(found[1])
        if number is None:
            return b"404 Not Found", b"", b""
        method = "GET" if found[2] == "info/refs" else "POST"
        if self._window.spend(1) > self._limit:
            self.git["refused"] += 1
            refusal = git_throttled(method)
            lines = b"".join(b"%s: %s\r\n" % one for one in refusal.raw_headers if one[0] != b"content-length")
            return b"200 OK", lines, bytes(refusal.body)
        self.git["answered"] += 1
        return self._by_git(number, method, "/" + found[2], parts.query, headers, body)

    def _by_git(
        self, number: int, method: str, suffix: str, query: str, headers: bytes, body: bytes
    ) -> tuple[bytes, bytes, bytes]:
        repository = self._repository(number)
        if b"command=fetch" in body and b"filter tree:0" not in body and (token := self.pushes[number].token):
            self.served_tokens.add(token)
        found = git_backend.backend(
            repository,
            method=method,
            suffix=suffix,
            query=query,
            content_type=_header(headers, "content-type"),
            protocol=_header(headers, "git-protocol"),
            encoding="",
            body=gzip.decompress(body) if _header(headers, "content-encoding") == "gzip" else body,
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in found.headers.items())
        return f"{found.status} .".encode(), lines.encode(), found.body

    def _repository(self, number: int) -> Path:
        """Return the path of the push's repository. Create the repository if it does not exist."""
        path = self.folder / "repositories" / str(number)
        if not path.exists():
            shutil.copytree(self.folder / "template", path)
            if self.planted.is_large(number):
                alternates = path / "objects" / "info" / "alternates"
                alternates.parent.mkdir(exist_ok=True)
                alternates.write_text(f"{self.folder / 'history' / 'objects'}\n")
            objects, _, head = self.planted.objects(number)
            objects.write(path, head)
        return path

    def _extended(self) -> tuple[bytes, bytes, bytes]:
        status, headers, body = super()._extended()
        return status, headers, json.dumps({**json.loads(body), "git": dict(self.git)}).encode()

    def _node(self, repository_id: int) -> dict[str, Any] | None:
        node = super()._node(repository_id)
        if node is None:
            return None
        traits: Traits = self.planted.traits[self.ids[repository_id]]
        language = {"name": traits.language} if traits.language else None
        about = "a client for replicate models" if traits.mentions_vendor else "a project"
        more = {"isFork": traits.is_fork, "diskUsage": traits.size_kb, "primaryLanguage": language}
        return {**node, **more, "description": about}


def _header(headers: bytes, name: str) -> str:
    found = re.search(rb"(?i)\r\n%s: ([^\r]*)" % name.encode(), headers)
    return found[1].decode("latin-1") if found else ""


def main() -> None:
    """Create the pushes, write the tokens and accounts to a file for the benchmark, and serve the simulated GitHub."""
    parser = argparse.ArgumentParser()
    for name, kind in (("pushes", int), ("rate", float), ("leaks", int), ("lag", float), ("git", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    planted = PlantedPushes(options.pushes, options.leaks)
    lines = [f"{token} {planted.traits[number].account or ''}" for number, token in planted.tokens.items()]
    (options.out / "tokens").write_text("\n".join(lines))
    leaking = [f"{planted.traits[number].owner}/project{number}" for number in planted.tokens]
    (options.out / "leaks").write_text("\n".join(leaking))
    github = AttentionGitHub(planted, options.rate, options.lag, options.git, options.out)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(firehose.serve(github, options.out / "address"))


if __name__ == "__main__":
    main()

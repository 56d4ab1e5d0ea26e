"""Tests that r8scan's requests and the simulated GitHub's answers agree with GitHub's published API description."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.responses import Response

from scanner.detection import Detector
from scanner.detection.git.packs import PackLimits
from scanner.github.addresses import Target
from scanner.github.client import App, GitHub, connect, get_json
from scanner.github.errors import GitHubError
from scanner.records.database import Database
from scanner.records.schema import upgrade
from scanner.response.policy import Policy
from scanner.settings import load_settings
from scanner.sources.code_search import poll as code_search
from scanner.sources.files import scan as remote_files
from scanner.sources.gists import poll as gists
from scanner.sources.pushes import scan as push_scan
from scanner.sources.rescan import manual
from scanner.sources.rescan.run import rescan_next
from scanner.sources.timeline import poll as public_events
from tests.openapi import Description
from tests.scanner.sources.knowing import make_due
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

Make = Callable[..., Workplace]


class Service:
    """Calls all parts of r8scan that send requests to GitHub."""

    def __init__(self, folder: Path, sandbox: SandboxGitHub, description: Description) -> None:
        self.folder, self.sandbox, self.description = folder, sandbox, description
        self.database = Database(f"sqlite:///{folder}/state/r8scan.db")
        upgrade(self.database)
        self.client = connect(sandbox.api_url, sandbox.url, "a-credential")
        judged(self.client, description)

    def poll(self) -> None:
        make_due(self.database)
        public_events.poll(self.database, self.client, Detector(), state_dir=self.folder, wait=lambda _: None)

    def search(self) -> None:
        make_due(self.database)
        code_search.poll(self.database, self.client, Detector(), queries=("r8_",), wait=lambda _: None)

    def gists(self) -> None:
        make_due(self.database)
        gists.poll(self.database, self.client, Detector(), wait=lambda _: None)

    def scan(self) -> None:
        make_due(self.database)
        options: dict[str, Any] = {"limits": PackLimits(), "threads": 1, "state_dir": self.folder}
        while push_scan.scan_next(self.database, self.client, Detector(), Policy(), **options) is not None:
            pass

    def fetch(self) -> None:
        make_due(self.database)
        options: dict[str, Any] = {"threads": 1, "state_dir": self.folder}
        while remote_files.scan_next(self.database, self.client, Detector(), Policy(), **options) is not None:
            pass

    def rescan(self, *targets: Target) -> None:
        with self.database.write() as session:
            for target in targets:
                manual.queue(session, target)
        settings = load_settings(state_dir=self.folder)
        while rescan_next(self.database, self.client, Detector(), Policy(), settings=settings) is not None:
            pass
        self.scan()


def judged(client: GitHub, description: Description) -> None:
    """Compare all requests and responses of the client with GitHub's API description."""

    def judge(response: httpx.Response) -> None:
        if str(response.request.url).startswith(f"{client.api_url}/"):
            response.read()
            description.judge(client.api_url, response)

    client.http.event_hooks = {"response": [judge]}


@contextmanager
def serving(folder: Path, sandbox: SandboxGitHub, description: Description) -> Iterator[Service]:
    service = Service(folder, sandbox, description)
    yield service
    service.client.close()
    service.database.close()


def private_key() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def fill(sandbox: SandboxGitHub, workplace: Make) -> tuple[str, str]:
    """Create an object of every kind on the simulated GitHub. Return the first and the last commit of ana/app."""
    work = workplace("ana/app")
    work.write("app.py", "REPLICATE = 'r8_'\n")
    first = work.commit("first")
    work.push()
    work.write("app.py", "REPLICATE = 'r8_x'\n")
    last = work.commit("second")
    work.push()
    work.push("HEAD:refs/heads/side")
    work.push(":refs/heads/side")
    sandbox.open_issue("ana/app", "title", "body")
    sandbox.comment("ana/app", "a comment")
    sandbox.publish("ana/app")
    listings = sandbox.repositories["ana/app"].listings
    for what in ("pulls/comments", "comments", "releases", "pulls/7/reviews"):
        listings[what].append({"body": what})
    listings["pulls"].append({"number": 7, "body": "a pull request"})
    gist = sandbox.create_gist({"a b.txt": b"r8_"}, owner="ana")
    gist.comments.append({"body": "a comment"})
    return first, last


def test_requests_and_answers_are_as_github_describes_them(
    tmp_path: Path, sandbox: SandboxGitHub, workplace: Make
) -> None:
    description = Description.published()
    first, last = fill(sandbox, workplace)
    with serving(tmp_path / "state", sandbox, description) as service:
        service.poll()
        service.poll()
        service.scan()
        service.search()
        service.gists()
        service.gists()
        service.fetch()
        service.rescan(Target("repository", "ana/app"), Target("gist", sandbox.gists[0].id), Target("owner", "ana"))
        service.rescan(Target("commit", "ana/app", head=last), Target("repository", "no/body"), Target("gist", "abc"))
        # Let the git server fail, so that r8scan reads the push through the REST API.
        sandbox.faults["git"].extend([lambda: Response(b"0000")] * 8)
        service.rescan(Target("push", "ana/app", first, last))
        sandbox.faults["git"].clear()
        sandbox.faults["git"].extend([lambda: Response(b"0000")] * 8)
        service.rescan(Target("push", "ana/app", "0" * 40, last))
        sandbox.faults["git"].clear()
        sandbox.renamed["ana/old"] = "ana/app"
        service.rescan(Target("repository", "ana/old"))
    private, sandbox.app_keys["4711"] = private_key()
    app = connect(sandbox.api_url, sandbox.url, App("4711", 99, private))
    judged(app, description)
    get_json(app, f"{app.api_url}/events", params={"per_page": 100}, expected=list)
    app.close()
    assert description.differences == []
    assert {name for name, _ in description.exercised} == description.operations
    refused = {(name, status) for name, status in description.exercised if status >= 300}
    assert refused >= {("GET /events", 304), ("GET /repos/{owner}/{repo}", 301), ("GET /repos/{owner}/{repo}", 404)}


def test_the_payload_of_every_event_fits_the_schema_of_its_type(sandbox: SandboxGitHub, workplace: Make) -> None:
    description = Description.published()
    fill(sandbox, workplace)
    events = sandbox.timeline.page(1, 100)
    for event in events:
        payload = dict(event["payload"])
        if payload.get("ref_type") == "repository":
            # GitHub's OpenAPI description requires a string here, but GitHub sends null.
            assert payload["ref"] is None
            payload["ref"] = ""
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", event["type"]).lower()
        description.check(event["type"], description.schema(name), payload)
    assert description.differences == []
    assert {event["type"] for event in events} >= {"PushEvent", "CreateEvent", "DeleteEvent", "IssuesEvent"}


@pytest.mark.parametrize(
    ("path", "difference"),
    [
        ("events?per_page=101", "per_page is 101"),
        ("events?perpage=1", "knows no parameter perpage"),
        ("search/code?page=1", "q is missing"),
        ("search/code?q=x&page=one", "'one' is not of type 'integer'"),
        ("repos/ana/app/nothing", "there is no such operation"),
    ],
)
def test_a_request_that_github_does_not_describe_is_reported(
    sandbox: SandboxGitHub, path: str, difference: str
) -> None:
    client = connect(sandbox.api_url, sandbox.url, "a-credential")
    description = Description.published()
    judged(client, description)
    for route in ("events", "search"):
        sandbox.faults[route].append(lambda: Response(b"[]", media_type="application/json"))
    try:
        get_json(client, f"{client.api_url}/{path}", expected=list)
    except GitHubError:
        pass
    finally:
        client.close()
    assert any(difference in one for one in description.differences)


def test_an_answer_that_github_would_not_give_is_reported(sandbox: SandboxGitHub, client: GitHub) -> None:
    description = Description.published()
    judged(client, description)
    sandbox.faults["events"].append(lambda: Response(b'[{"id": 5}]', media_type="application/json"))
    get_json(client, f"{client.api_url}/events", expected=list)
    assert any("5 is not of type 'string'" in one for one in description.differences)
    assert any("'payload' is a required property" in one for one in description.differences)

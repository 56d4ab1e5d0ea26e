"""Tests for texts from GitHub that a database cannot store. All other content is still read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from starlette.responses import Response

from scanner.detection import Detector, sha256_digest
from scanner.detection.git.packs import PackLimits
from scanner.github.client import GitHub, connect
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.response.respond import look_up_again
from scanner.sources.alerts import answer_alerts, parse_alerts
from scanner.sources.files import scan as remote_files
from scanner.sources.gists import poll as gists
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.scan import scan_next
from scanner.sources.timeline import poll as public_events
from tests.scanner.sources.knowing import exposures, is_disabled, know, make_due
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

Make = Callable[..., Workplace]
Token = Callable[[], str]
LONE = "\ud800\0\udcff"
SHOWN = "\\ud800\\x00\\xff"


def test_a_push_with_names_that_are_not_utf8_is_read(
    database: Database, client: GitHub, workplace: Make, tmp_path: Path, fresh_token: Token
) -> None:
    token, in_name = fresh_token(), fresh_token()
    digests = [know(database, token), know(database, in_name)]
    work = workplace()
    before = work.commit("first")
    folder = os.fsencode(work.path) + b"/d\xe9j\xe0"
    os.mkdir(folder)
    for name, content in ((b"caf\xe9.py", token.encode()), (b"\xff" + in_name.encode(), b"x")):
        with open(folder + b"/" + name, "wb") as file:
            file.write(content)
    head = work.commit("not UTF-8")
    work.push()
    push = Push("ana/app", 7, before, head, "refs/heads/" + os.fsdecode(b"caf\xe9"), "branch", None, "push")
    with database.write() as session:
        jobs.enqueue(session, JobKind.PUSHES, {"pushes": [push.to_json()]}, source="public_events")
    scan_next(database, client, Detector(), Policy(), limits=PackLimits(), threads=1, state_dir=tmp_path)
    assert all(is_disabled(database, digest) for digest in digests)
    assert "d\\xe9j\\xe0/caf\\xe9.py" in [place.path for place in exposures(database)]


def test_a_gist_with_lone_surrogates_is_read(
    database: Database, client: GitHub, sandbox: SandboxGitHub, tmp_path: Path, fresh_token: Token
) -> None:
    token = fresh_token()
    digest = know(database, token)
    sandbox.create_gist({"a.py": token.encode(), "b.py": b"x"})
    (listed,) = httpx.get(f"{sandbox.api_url}/gists/public").json()
    listed["description"] = LONE
    listed["files"][LONE] = {**listed["files"].pop("a.py"), "filename": f"a{LONE}.py", "type": LONE}
    sandbox.faults["gists"].append(lambda: Response(json.dumps([listed]).encode()))
    gists.poll(database, client, Detector(), wait=lambda _: None)
    make_due(database)
    while remote_files.scan_next(database, client, Detector(), Policy(), threads=1, state_dir=tmp_path) is not None:
        pass
    assert is_disabled(database, digest)
    (place,) = exposures(database)
    assert place.path == f"a{SHOWN}.py"


def test_event_texts_with_lone_surrogates_are_read(database: Database, tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    digest = know(database, token)
    comment = {"body": f"{LONE} {token}", "html_url": f"https://github.example/ana/app/issues/1{LONE}"}
    events: list[dict[str, Any]] = [
        {
            "id": "1",
            "type": "IssueCommentEvent",
            "repo": {"id": 7, "name": "ana/app"},
            "payload": {"action": "created", "issue": {"title": LONE}, "comment": comment},
            "created_at": "2026-11-20T10:00:00Z",
        },
        {
            "id": "2",
            "type": "PushEvent",
            "repo": {"id": 7, "name": f"ana/app{LONE}"},
            "payload": {"ref": f"refs/heads/{LONE}", "before": "b" * 40, "head": "a" * 40},
            "created_at": "2026-11-20T10:00:00Z",
        },
    ]
    answer = httpx.Response(200, content=json.dumps(events).encode(), headers={"content-type": "application/json"})
    github = connect("https://api.github.example", "https://github.example", None)
    with respx.mock(base_url="https://api.github.example", assert_all_called=False) as api:
        api.get("/events").mock(return_value=answer)
        public_events.poll(database, github, Detector(), state_dir=tmp_path, wait=lambda _: None)
    github.close()
    look_up_again(database, policy=Policy())
    assert is_disabled(database, digest)


@pytest.mark.parametrize("field", ["url", "source", "type"])
def test_an_alert_with_a_lone_surrogate_is_answered(
    database: Database, tmp_path: Path, fresh_token: Token, field: str
) -> None:
    token = fresh_token()
    digest = know(database, token)
    record = {"token": token, "type": "replicate_api_token", "url": "", "source": "content", field: f"https://{LONE}"}
    beside = {"token": LONE, "type": LONE, "url": LONE, "source": LONE}
    found = parse_alerts(json.dumps([beside, record]).encode(), sha256_digest, "https://github.com")
    answer_alerts(database, found, policy=Policy(), state_dir=tmp_path)
    assert is_disabled(database, digest)

"""Tests of the result of a rescan, for example how many tokens it found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from scanner.detection import Detector, sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.github.addresses import Target
from scanner.github.client import GitHub
from scanner.records import unread_contents
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.settings import load_settings
from scanner.sources.found_tokens import MAX_KEPT, FoundTokens
from scanner.sources.rescan.manual import queue
from scanner.sources.rescan.run import rescan_next
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from workers.cli import jobs_watched
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

Token = Callable[[], str]


def _known(database: Database, token: str) -> None:
    row = ImportedToken(sha256_digest(token.encode()), hint_of(token.encode()), "", "ana", ("ana@example.com",))
    with database.write() as session:
        ImportRun.begin().write(session, [row])


def _rescanned(database: Database, client: GitHub, state_dir: Path) -> ScanJob:
    with database.write() as session:
        job_id = queue(session, Target("repository", "ana/app")).id
    settings = load_settings(state_dir=state_dir)
    while rescan_next(database, client, Detector(), Policy(), settings=settings) is not None:
        pass
    with database.read() as session:
        return session.execute(select(ScanJob).where(ScanJob.id == job_id)).scalar_one()


def test_a_rescan_says_what_it_found_and_names_what_it_could_not_read(
    database: Database,
    client: GitHub,
    sandbox: SandboxGitHub,
    workplace: Callable[..., Workplace],
    fresh_token: Token,
    tmp_path: Path,
) -> None:
    live, unknown = fresh_token(), fresh_token()
    _known(database, live)
    work = workplace()
    work.write("a.py", f"one = '{live}'\nagain = '{live}'\n")
    work.write("b.py", f"two = '{unknown}'\n")
    work.write("assets/old.rar", b"Rar!\x1a\x07\x01\x00" + bytes(100))
    work.commit("all")
    work.push()
    sandbox.repositories["ana/app"].listings["issues"].append({"body": f"it fails with {live}", "html_url": None})
    first = _rescanned(database, client, tmp_path / "state")
    words = "2 tokens found: 1 live, disabled now; 1 unknown to the token store"
    assert jobs_watched.found_text([first]) == words, "a token in three places counts once"
    assert "found" not in first.progress
    with database.read() as session:
        rows = unread_contents.of_job(session, first.id)
    assert [(row.place["path"], row.reasons) for row in rows] == [("assets/old.rar", "unsupported_container:rar")]
    assert len(rows[0].place["git_object"]) == 40
    (line,) = jobs_watched.unread_lines([first])
    assert line == f"not read in ana/app: 1 × unsupported container:rar; see r8scan jobs show {first.id}"
    second = _rescanned(database, client, tmp_path / "state")
    words = "2 tokens found: 1 disabled before; 1 unknown to the token store"
    assert jobs_watched.found_text([second]) == words


def test_digests_of_a_job_are_limited_and_survive_its_steps() -> None:
    found = FoundTokens()
    found.add(Response(unknown_digests={"a", "b"}))
    found.add(Response(known_digests={"a"}))
    again = FoundTokens.from_json(found.to_json())
    assert (again.known, again.unknown, again.is_full) == ({"a"}, {"b"}, False)
    again.add(Response(unknown_digests={f"{number}" for number in range(MAX_KEPT)}))
    assert len(again.known) + len(again.unknown) == MAX_KEPT
    assert again.is_full


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "no token found"),
        ({"tokens_protected": 1}, "1 token found: 1 live and protected, not disabled"),
        (
            {"tokens_unknown": 1000, "tokens_uncounted": 1},
            "1,000 tokens or more found: 1,000 unknown to the token store",
        ),
    ],
)
def test_the_result_of_a_rescan_is_a_sentence(counts: dict[str, int], words: str) -> None:
    assert jobs_watched.found_text([ScanJob(counts=counts)]) == words

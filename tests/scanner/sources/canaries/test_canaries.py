"""Tests that canaries (test tokens) are disabled like leaked tokens, but that nobody is notified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import func, select, update

from scanner.compromise import reports
from scanner.compromise.reports import NewReport, new_report, subject_of
from scanner.compromise.settling import settle
from scanner.detection import Detector
from scanner.detection.canaries import fresh_canary, packed
from scanner.detection.digests import sha256_digest
from scanner.detection.git.packs import PackLimits
from scanner.github.client import GitHub, connect
from scanner.records import canaries
from scanner.records.audit_models import AuditEntry
from scanner.records.canary_models import Canary
from scanner.records.database import Database
from scanner.records.models import ApiToken, Incident, Notification, Sighting, db_now
from scanner.records.states import CanaryState, CanaryWay, Decision, EnforceMode
from scanner.response.policy import Policy
from scanner.response.responder import look_up_due
from scanner.response.store_access import access_to
from scanner.settings import Settings, load_settings
from scanner.sources import alerts
from scanner.sources.canaries import planting, texts
from scanner.sources.files import scan as files
from scanner.sources.pushes.scan import scan_next
from scanner.sources.timeline import poll as timeline
from scanner.tokens.http import HttpStore
from workers.context import Context
from workers.health import canaries as health
from workers.health.checks.canaries import check_canaries
from workers.health.problems import Kind, Problem
from workers.sandbox import token_store
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.token_store import ReferenceStore
from workers.web.console.queries import incidents as queries
from workers.web.console.queries.incidents import Filter

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""Runs a test only on SQLite. Other tests run the same statements on PostgreSQL."""


@dataclass
class Bench:
    """Polls, scans, responds and plants canaries in the test's own thread."""

    database: Database
    settings: Settings
    state_dir: Path
    github: GitHub
    detector: Detector = field(default_factory=Detector)
    policy: Policy = field(default_factory=lambda: Policy(operator_email="op@example.com"))
    github_of_canaries: GitHub = field(init=False)

    def __post_init__(self) -> None:
        self.github_of_canaries = self.github

    def poll(self) -> None:
        timeline.poll(
            self.database,
            self.github,
            self.detector,
            state_dir=self.state_dir,
            wait=lambda _: None,
            canaries=lambda: texts.events(self.database, self.policy, self.detector.digester),
        )

    def scan(self) -> None:
        arguments = (self.database, self.github, self.detector, self.policy)
        while scan_next(*arguments, limits=PackLimits(), threads=1, state_dir=self.state_dir) is not None:
            pass
        while files.scan_next(*arguments, threads=1, state_dir=self.state_dir) is not None:
            pass

    def respond(self) -> None:
        look_up_due(self.database, policy=self.policy)
        planting.settle(self.database, self.policy)

    def newest(self, way: CanaryWay) -> Canary:
        with self.database.read() as session:
            found = canaries.newest(session, way)
        assert found is not None
        return found

    def age(self, **by: float) -> None:
        with self.database.write() as session:
            for canary in session.execute(select(Canary)).scalars():
                canary.planted_at -= timedelta(**by)
                canary.ended_at = canary.ended_at and canary.ended_at - timedelta(**by)
                canary.slot -= int(timedelta(**by).total_seconds()) // planting.SLOT_SECONDS

    def state(self, *, running: timedelta = timedelta(0)) -> health.CanariesState:
        """Return the state of the canaries for `r8scan status`, after the service has run for the time `running`."""
        with self.database.read() as session:
            now = session.execute(select(db_now())).scalar_one()
            return health.read(session, self.settings, now, now - running)

    def problems(self, *, running: timedelta = timedelta(0)) -> list[Problem]:
        return self.state(running=running).problems

    def count(self, model: type[ApiToken] | type[Incident] | type[Notification] | type[Sighting]) -> int:
        with self.database.read() as session:
            return session.execute(select(func.count()).select_from(model)).scalar_one()


@pytest.fixture
def bench(database: Database, client: GitHub, tmp_path: Path) -> Bench:
    return Bench(database, load_settings(read_dotenv=False), tmp_path, client)


def test_canaries_in_the_queues_are_disabled_in_the_same_way_as_a_leak(bench: Bench) -> None:
    assert planting.plant_due(bench) == [CanaryWay.TEXTS, CanaryWay.PUSHES, CanaryWay.FILES]
    bench.poll()
    bench.scan()
    bench.respond()
    seen_by = {CanaryWay.TEXTS: "public_events", CanaryWay.PUSHES: "canary", CanaryWay.FILES: "canary"}
    for way, source in seen_by.items():
        canary = bench.newest(way)
        assert (canary.state, canary.decision, canary.source) == (CanaryState.ENDED, Decision.DISABLED, source)
        assert canary.ended_at is not None
    with bench.database.read() as session:
        entries = session.execute(select(AuditEntry.what, AuditEntry.evidence)).all()
        assert [what for what, _ in entries] == ["canary_disabled"] * 3
        assert {evidence["digest"] for _, evidence in entries} == set(session.execute(select(Canary.digest)).scalars())
    assert [bench.count(model) for model in (Incident, Notification, Sighting, ApiToken)] == [0, 0, 0, 0]
    assert bench.problems() == []


@on_sqlite
def test_a_second_canary_is_planted_only_when_it_is_due_and_not_behind_one_that_waits(bench: Bench) -> None:
    planting.plant_due(bench)
    assert planting.plant_due(bench) == []
    bench.scan()
    bench.respond()
    bench.age(minutes=bench.settings.canary_minutes)
    due = [CanaryWay.PUSHES, CanaryWay.FILES]
    assert planting.plant_due(bench) == due  # no canary for texts, because the first one still waits for a poll


def test_a_canary_is_late_then_lost_until_a_later_one_is_disabled(bench: Bench) -> None:
    planting.plant_due(bench)
    bench.scan()
    bench.respond()
    bench.age(minutes=11)
    assert [(one.kind, one.subject) for one in bench.problems()] == [(Kind.CANARY_LATE, "texts")]
    bench.age(hours=1)
    problems = {one.subject: one for one in bench.problems()}
    assert problems["texts"].kind == Kind.CANARY_LOST
    assert "planted" in problems["texts"].sentence
    assert problems["pushes"].kind == Kind.CANARY_NOT_PLANTED  # for an hour, no canary was planted
    planting.plant_due(bench)
    bench.poll()
    bench.scan()
    bench.respond()
    assert bench.problems() == []


@on_sqlite
def test_a_service_that_runs_and_never_plants_is_a_problem(bench: Bench) -> None:
    assert {one.kind for one in bench.problems(running=timedelta(hours=1))} == {Kind.CANARY_NOT_PLANTED}


@on_sqlite
def test_in_the_mode_observe_a_canary_ends_as_observed(bench: Bench) -> None:
    bench.policy = replace(bench.policy, enforce=EnforceMode.OBSERVE)
    planting.plant_due(bench)
    bench.scan()
    bench.respond()
    assert bench.newest(CanaryWay.PUSHES).decision == Decision.OBSERVED
    assert bench.count(Notification) == 0


@on_sqlite
def test_in_the_mode_observe_no_check_says_that_a_canary_was_disabled(bench: Bench) -> None:
    bench.settings = bench.settings.model_copy(update={"enforce": EnforceMode.OBSERVE})
    bench.policy = replace(bench.policy, enforce=EnforceMode.OBSERVE)
    planting.plant_due(bench)
    bench.poll()
    bench.scan()
    bench.respond()
    assert "pushes: found after" in check_canaries(cast(Context, bench))
    planting.plant_due(bench)
    with bench.database.write() as session:
        session.execute(update(Canary).values(state=CanaryState.PLANTED, ended_at=None, decision=None))
    bench.age(minutes=11)
    assert {one.sentence.rpartition(" and ")[2] for one in bench.problems()} == {"not found"}


@on_sqlite
def test_a_canary_that_the_store_no_longer_has_live_is_no_success(bench: Bench) -> None:
    planting.plant_due(bench)
    bench.scan()
    with bench.database.write() as session:
        session.execute(update(Incident).values(action=Decision.ALREADY_DISABLED))
    bench.respond()
    assert [one.kind for one in bench.problems() if one.subject == "pushes"] == [Kind.CANARY_LOST]


@on_sqlite
def test_after_a_kill_the_same_canary_token_is_made_again_and_no_second_one(bench: Bench) -> None:
    planting.plant_due(bench)
    texts.events(bench.database, bench.policy, bench.detector.digester)  # the process is killed after this call
    bench.poll()
    bench.poll()  # the canary waits to be looked up in the token store; this poll makes no second one
    bench.respond()
    assert bench.newest(CanaryWay.TEXTS).decision == Decision.DISABLED
    assert bench.count(ApiToken) == 0


@pytest.fixture
def store() -> Iterator[ReferenceStore]:
    with token_store.running(ReferenceStore("the-secret")) as reference:
        yield reference


@on_sqlite
def test_a_store_behind_http_takes_canaries_and_is_asked_to_disable_them(bench: Bench, store: ReferenceStore) -> None:
    http = HttpStore(store.url, "the-secret")
    bench.settings = bench.settings.model_copy(update={"token_store_url": store.url})
    assert planting.plant_due(bench) == []  # because R8SCAN_TOKEN_STORE_CANARIES is off
    assert {one.off.partition(" ")[0] for one in bench.state().canaries[:2]} == {"R8SCAN_TOKEN_STORE_CANARIES"}
    bench.settings = bench.settings.model_copy(update={"token_store_canaries": True})
    bench.policy = replace(bench.policy, access=access_to(http))
    planting.plant_due(bench)
    bench.scan()
    bench.respond()
    canary = bench.newest(CanaryWay.PUSHES)
    assert (canary.state, canary.decision) == (CanaryState.ENDED, Decision.DISABLED)
    assert store.tokens[str(canary.digest)]["disabled_at"]
    http.close()


@on_sqlite
def test_a_store_that_refuses_a_canary_fails_the_push_and_is_named(bench: Bench, store: ReferenceStore) -> None:
    http = HttpStore(store.url, "a wrong secret")
    bench.policy = replace(bench.policy, access=access_to(http))
    planting.plant_due(bench)
    bench.scan()
    bench.respond()
    canary = bench.newest(CanaryWay.PUSHES)
    assert canary.state == CanaryState.PLANTED
    assert canary.digest is None
    assert "R8SCAN_TOKEN_STORE_SECRET" in str(canary.error)
    http.close()


@pytest.fixture
def published(bench: Bench, sandbox: SandboxGitHub) -> Iterator[Bench]:
    sandbox.create_repository("acme/canaries")
    gist = sandbox.create_gist({"readme": b"canaries"})
    update = {"canary_repository": "acme/canaries", "canary_gist": gist.id, "sources": ()}
    bench.settings = bench.settings.model_copy(update=update)
    bench.github_of_canaries = connect(sandbox.api_url, sandbox.url, "a-token", label="R8SCAN_CANARY_GITHUB_TOKEN")
    yield bench
    bench.github_of_canaries.close()


def test_a_canary_in_public_is_found_where_it_was_published(published: Bench, sandbox: SandboxGitHub) -> None:
    assert planting.plant_due(published) == [CanaryWay.PUSHES, CanaryWay.REPOSITORY, CanaryWay.GIST]
    published.poll()
    published.scan()
    published.respond()
    canary = published.newest(CanaryWay.REPOSITORY)
    assert (canary.decision, canary.source) == (Decision.DISABLED, "public_events")
    assert canary.place == f"{sandbox.url}/acme/canaries/blob/main/canary.txt"
    assert b"TOKEN=" in sandbox.gists[0].files["canary.txt"]
    with published.database.read() as session:
        assert "canary_planted" in session.execute(select(AuditEntry.what)).scalars().all()
    published.age(hours=6)
    published.scan()
    published.respond()
    assert CanaryWay.REPOSITORY in planting.plant_due(published)  # the second canary replaces the file of the first one
    assert published.newest(CanaryWay.REPOSITORY).state == CanaryState.PLANTED


@on_sqlite
def test_a_canary_that_github_refuses_is_a_problem_and_leaves_no_live_token(
    published: Bench, sandbox: SandboxGitHub
) -> None:
    published.settings = published.settings.model_copy(update={"canary_repository": "acme/gone", "canary_gist": None})
    planting.plant_due(published)
    canary = published.newest(CanaryWay.REPOSITORY)
    assert (canary.state, canary.place) == (CanaryState.FAILED, "")
    problems = [one for one in published.problems() if one.subject == "repository"]
    assert [one.kind for one in problems] == [Kind.CANARY_NOT_PLANTED]
    assert "answered 404" in problems[0].sentence
    assert published.count(ApiToken) == 0
    assert planting.plant_due(published) == []
    published.age(minutes=10)
    assert planting.plant_due(published) == [CanaryWay.REPOSITORY]


def token_of(bench: Bench, sandbox: SandboxGitHub) -> str:
    """Plant a canary (a test token) in a gist, and return the token."""
    assert CanaryWay.GIST in planting.plant_due(bench)
    return sandbox.gists[0].files["canary.txt"].decode().partition("TOKEN=")[2].strip()


def reported(token: str, *, url: str = "") -> NewReport:
    return replace(new_report(subject_of(token, sha256_digest), sign="found", note="", reporter="finder"), url=url)


def alert_of(bench: Bench, token: str) -> list[str]:
    body = json.dumps([{"token": token, "type": "vendor_token", "url": "", "source": "gist_content"}]).encode()
    verdict = alerts.answer_alerts(
        bench.database, alerts.parse_alerts(body, sha256_digest, ""), policy=bench.policy, state_dir=bench.state_dir
    )
    return [one["label"] for one in verdict.feedback]


@pytest.mark.parametrize("url", ["", "https://github.com/acme/fork/blob/main/a"])
def test_a_report_of_a_canary_ends_the_canary_and_mails_nobody(
    published: Bench, sandbox: SandboxGitHub, url: str
) -> None:
    token = token_of(published, sandbox)
    # The disable quota is zero, so r8scan does not disable any other reported token.
    settled = settle(
        published.database,
        reports.record(published.database, [reported(token, url=url)]),
        policy=published.policy,
        per_minute=0,
    )
    assert settled.counts == {"disabled": 1}
    with published.database.read() as session:
        for hidden in (Filter(), Filter(state="open"), Filter(source="finder")):
            assert (queries.page(session, hidden).rows, queries.count(session, hidden)) == ([], 0)
        assert queries.count(session, Filter(cause="canary")) == 1
    published.respond()
    canary = published.newest(CanaryWay.GIST)
    assert (canary.state, canary.decision, canary.source) == (CanaryState.ENDED, Decision.DISABLED, "finder")
    assert [published.count(model) for model in (Incident, Notification)] == [0, 0]
    with published.database.read() as session:
        assert "canary_disabled" in session.execute(select(AuditEntry.what)).scalars().all()


@on_sqlite
def test_an_alert_of_a_canary_is_a_true_positive_before_and_after_it_ended(
    published: Bench, sandbox: SandboxGitHub
) -> None:
    token = token_of(published, sandbox)
    assert alert_of(published, token) == ["true_positive"]
    published.respond()
    assert published.newest(CanaryWay.GIST).source == "partner_alerts"
    assert alert_of(published, token) == ["true_positive"]
    ids = reports.record(published.database, [reported(token)])
    assert settle(published.database, ids, policy=published.policy, per_minute=60).counts == {"already_disabled": 1}
    published.respond()
    assert [published.count(model) for model in (Incident, Notification, Sighting)] == [0, 0, 0]


@on_sqlite
def test_an_ended_canary_that_is_found_again_makes_no_incident(
    published: Bench, sandbox: SandboxGitHub, store: ReferenceStore
) -> None:
    http = HttpStore(store.url, "the-secret")
    published.settings = published.settings.model_copy(
        update={"token_store_url": store.url, "token_store_canaries": True}
    )
    published.policy = replace(published.policy, access=access_to(http))
    token = token_of(published, sandbox)
    for _ in range(2):
        assert alert_of(published, token) == ["true_positive"]
        published.respond()
        assert (published.count(Incident), published.count(Notification)) == (0, 0)
    assert published.newest(CanaryWay.GIST).decision == Decision.DISABLED
    http.close()


def test_no_repr_contains_the_raw_token() -> None:
    content = fresh_canary(sha256_digest)
    token = content.text.decode().partition("TOKEN=")[2].strip()
    assert content.digest == sha256_digest(token.encode())
    assert token not in repr(content) + repr(packed(content.text)) + content.hint

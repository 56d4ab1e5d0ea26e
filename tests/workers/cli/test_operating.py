"""Tests for the commands `r8scan status`, `r8scan rescan` and `r8scan backfill`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from scanner.child_processes import start_child
from scanner.records import jobs, tallies
from scanner.records.database import Database
from scanner.records.models import ApiToken, Exposure, Incident, ScanJob, db_now
from scanner.records.schema import upgrade
from scanner.records.source_models import BudgetState, CircuitState, Gap, SourceState
from scanner.records.states import JobKind
from tests.workers.health.alive import seen

Run = Callable[..., "subprocess.CompletedProcess[str]"]
COMPLETE = {
    "R8SCAN_SMTP_URL": "smtp://127.0.0.1:1",
    "R8SCAN_EMAIL_FROM": "r8scan@vendor.example",
    "R8SCAN_OPERATOR_EMAIL": "ops@vendor.example",
}
"""Complete settings, so that the status reports no problem about a missing one."""


@pytest.fixture
def state(tmp_path: Path) -> Database:
    migrated = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    upgrade(migrated)
    with migrated.write() as session:
        session.add(ApiToken(digest="1" * 64))
    return migrated


def test_the_status_reports_a_service_that_was_never_started(r8scan: Run, state: Database) -> None:
    done = r8scan("status", "--json")
    assert done.returncode == 1
    kinds = [one["kind"] for one in json.loads(done.stdout)["problems"]]
    assert kinds == ["not_running", "mails_go_nowhere", "operator_not_set"]
    lines = r8scan("status").stdout.splitlines()
    assert lines[0] == "NOT WORKING: no worker runs; start r8scan run"
    assert lines[1].startswith(f"database: {state.url.database}   read at 2")
    assert [line[:2] for line in lines[2:6]] == ["! ", "! ", "! ", ""], "the problems follow the first line"


def test_the_status_of_a_folder_without_an_installation_creates_nothing(r8scan: Run, tmp_path: Path) -> None:
    for options in ((), ("--json",), ("--watch",)):
        done = r8scan("status", *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"r8scan: there is no r8scan installation here: {tmp_path}/state/r8scan.db does")
    assert not (tmp_path / "state").exists()


def test_the_status_of_a_database_that_cannot_be_read_is_only_the_reason(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = r8scan("status", env={"R8SCAN_DATABASE_URL": f"sqlite:///{tmp_path}/folder"})
    assert done.stderr.startswith(f"r8scan: {tmp_path}/folder is a folder, not the file of a database: check R8SCAN")
    away = r8scan("status", env={"R8SCAN_DATABASE_URL": "postgresql://a:hunter2@127.0.0.1:1/r8scan"})
    lines = away.stdout.splitlines()
    assert lines[0].startswith("NOT WORKING: the database cannot be used (")
    assert lines[1].startswith("database: postgresql 127.0.0.1:1/r8scan ")
    assert all(line.startswith("! ") for line in lines[2:])
    assert "hunter2" not in away.stdout


def add_polled_sources(session: Session, now: datetime) -> None:
    """Add four sources, a quota, a gap (missed events) and a waiting job."""
    for source in ("public_events", "code_search", "gists", "event_archive"):
        session.add(
            SourceState(
                source=source,
                next_poll_at=db_now(60),
                last_success_at=db_now(-5),
                newest_seen_at=now - timedelta(seconds=40),
                counts={"polls": 7, "events": 2100},
            )
        )
    session.add(
        BudgetState(
            credential="R8SCAN_GITHUB_TOKEN",
            resource="core",
            limit=5000,
            remaining=4711,
            resets_at=db_now(600),
            reason="",
            updated_at=db_now(),
        )
    )
    span = {"from_at": now - timedelta(seconds=60), "until_at": now, "reason": "no_overlap"}
    session.add(Gap(source="public_events", estimated=3900, found_at=db_now(), **span))
    tallies.add(session, "public_events", {"pushes": 90, "unread_pack_over_limit": 2, "error_http_500": 1})
    jobs.enqueue(session, JobKind.PUSHES, {"pushes": []}, source="public_events")


def add_disabled_incidents(session: Session, now: datetime) -> None:
    """Add three incidents whose tokens were disabled one, two and three seconds after their publication."""
    for seconds in (1, 2, 3):
        incident = Incident(
            digest=f"{seconds:064x}",
            hint="r8_Ab1…xyz9",
            token_id="1",
            token_name="ci",
            cause="public_repository",
            action="disabled",
            detected_at=now,
            disabled_at=now,
        )
        session.add(incident)
        session.flush()
        place = {"kind": "file", "url": "", "source": "public_events", "place_key": str(seconds)}
        published = now - timedelta(seconds=seconds)
        session.add(Exposure(incident_id=incident.id, seen_at=now, published_at=published, **place))
        # Add an older public place that was found after the token was disabled. Its age must not count as a delay.
        older = {"seen_at": now + timedelta(hours=1), "published_at": now - timedelta(days=900)}
        session.add(Exposure(incident_id=incident.id, **older, **{**place, "place_key": f"{seconds} elsewhere"}))


def test_the_status_shows_sources_budgets_queues_and_speed(r8scan: Run, state: Database) -> None:
    now = datetime.now(UTC)
    with state.write() as session:
        add_polled_sources(session, now)
        add_disabled_incidents(session, now)
        seen(session, age_seconds=300)
    done = r8scan("status", "--json", env=COMPLETE)
    found = json.loads(done.stdout)
    events = next(one for one in found["sources"] if one["source"] == "public_events")
    assert (done.returncode, found["problems"]) == (0, [])
    assert 35 < events["lag_seconds"] < 60
    assert (events["gaps_24h"], events["missed_by_estimate_24h"]) == (1, 3900)
    assert (events["scanned_24h"], events["failed_24h"]) == ({"pushes": 90}, {"error_http_500": 1})
    assert found["budgets"][0]["remaining"] == 4711
    assert found["queues"][0]["jobs"] == 1
    assert found["speed"]["p50_seconds"] == 2.0
    shown = r8scan("status", env=COMPLETE).stdout
    said = "Working: disabling, 3 of 5 sources polled, nothing waits for you"
    assert shown.splitlines()[0] == said
    assert found["verdict"] == {"works": True, "problems": 0, "sentence": said, "starts": False}
    observed = r8scan("status", env=COMPLETE | {"R8SCAN_ENFORCE": "observe"}).stdout
    assert "observing only, disabling nothing" in observed.splitlines()[0]
    for part in (
        "mode: disable   mails: smtp 127.0.0.1:1   tokens: own tables",
        "public_events",
        "4711",
        "3900",
        "r8_Ab1…xyz9",
        "p50 2.0 s",
    ):
        assert part in shown


def test_problems_are_named_and_set_the_exit_status(r8scan: Run, state: Database) -> None:
    with state.write() as session:
        session.add(SourceState(source="public_events", next_poll_at=db_now(-900), last_success_at=db_now(-900)))
        session.add(SourceState(source="gists", next_poll_at=db_now(60), error="x rejects y: replace it"))
        session.add(
            BudgetState(
                credential="R8SCAN_GITHUB_TOKEN",
                resource="credential",
                limit=0,
                remaining=0,
                blocked_until=db_now(50),
                reason="rejected",
                updated_at=db_now(),
            )
        )
        session.add(CircuitState(host="github.com", failures=12, open_until=db_now(50), updated_at=db_now()))
        dropped = {"dropped_backlog_unlikely": 25, "dropped_backlog_repository": 3, "given_up": 7}
        tallies.add(session, "public_events", dropped)
        for kind, hours in (
            (JobKind.PUSHES, 1),
            (JobKind.FILES, 3),
            (JobKind.REPOSITORY, 7),
            (JobKind.ARCHIVE_HOUR, 5),
        ):
            job_id = jobs.enqueue(session, kind, {kind: []}, source="public_events")
            aged = {"created_at": db_now(-3600 * hours - 60)}
            session.execute(update(ScanJob).where(ScanJob.id == job_id).values(aged))
        seen(session)
    done = r8scan("status")
    assert done.returncode == 1
    for part in (
        "not polled for more than 10 minutes",
        "rejects the credential R8SCAN_GITHUB_TOKEN: replace it",
        "github.com does not answer",
        "25 pushes were dropped",
        "3 repositories were dropped",
        "the oldest job of kind pushes has waited for 61 minutes",
        "the oldest job of kind files has waited for 3 hours",
        "the oldest job of kind repository has waited for 7 hours",
        "7 (given_up)",
    ):
        assert part in done.stdout
    assert "kind archive_hour" not in done.stdout


@pytest.mark.parametrize(
    ("options", "mark", "opened"),
    [
        ((), b"Sources (24 hours)", os.openpty),
        (("--json",), b'"sources"', os.openpty),
        ((), b"Sources (24 hours)", os.pipe),
    ],
    ids=["terminal", "terminal-json", "pipe"],
)
def test_watching_repeats_the_status_until_it_is_interrupted(
    state: Database, tmp_path: Path, options: tuple[str, ...], mark: bytes, opened: Callable[[], tuple[int, int]]
) -> None:
    terminal, its_side = opened()
    command = [str(Path(sys.executable).parent / "r8scan"), "status", "--watch", *options]
    env = {"PATH": os.environ["PATH"], "R8SCAN_STATE_DIR": str(tmp_path / "state"), "TERM": "xterm", "COLUMNS": "200"}
    # The command inherits how the tests handle SIGINT. Tests in the background ignore SIGINT, so set Python's handler.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        child = start_child(command, env=env, stdout=its_side, stderr=its_side)
    finally:
        signal.signal(signal.SIGINT, inherited)
    os.close(its_side)
    shown = b""
    try:
        # Wait until the command shows the status. Then cause a problem, and wait until the command shows the problem.
        while mark not in shown:
            shown += os.read(terminal, 65536)
            assert child.poll() is None, shown
        with state.write() as session:
            session.add(CircuitState(host="github.com", failures=12, open_until=db_now(50), updated_at=db_now()))
        while b"github.com does not answer" not in shown:
            shown += os.read(terminal, 65536)
            assert child.poll() is None, shown
        child.send_signal(signal.SIGINT)
        while True:
            try:
                more = os.read(terminal, 65536)
            except OSError:
                break  # the other side of the terminal is closed
            if not more:
                break  # the other side of the pipe is closed
            shown += more
        status = child.wait(30)
    finally:
        child.kill()
        child.wait()
        os.close(terminal)
    assert status in (0, 130)
    assert b"Traceback" not in shown


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("repo", "nothing"), "write OWNER/NAME"),
        (("owner", "a/b"), "write the owner's name"),
        (("gist", "xyz"), "write the hex digits"),
        (("commit", "ana/app", "abc"), "write all 40 hex digits"),
        (("push", "ana/app", "a" * 40, "b"), "write all 40 hex digits"),
        (("url", "https://example.com/x"), "not an address of github.com"),
        (("cancel", "4711"), "there is no job 4711"),
    ],
)
def test_a_malformed_target_is_a_one_line_error(
    r8scan: Run, state: Database, arguments: tuple[str, ...], line: str
) -> None:
    done = r8scan("rescan", *arguments)
    assert done.returncode == (1 if arguments[0] == "cancel" else 2)
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_every_kind_of_target_becomes_one_job_that_can_be_listed_and_cancelled(r8scan: Run, state: Database) -> None:
    orders = [
        ("repo", "ana/app"),
        ("owner", "ana"),
        ("gist", "0123abcd"),
        ("commit", "ana/app", "a" * 40),
        ("push", "ana/app", "a" * 40, "b" * 40),
        ("url", "https://github.com/ben/app/issues/7"),
    ]
    numbers = []
    for order in orders:
        done = r8scan("rescan", *order, "--no-wait", "--json")
        assert done.returncode == 0
        assert "waits, because r8scan run does not run here" in done.stderr
        numbers.append(json.loads(done.stdout)["job"])
    assert len(set(numbers)) == 6
    again = r8scan("rescan", "repo", "Ana/App", "--no-wait", "--json")
    assert json.loads(again.stdout)["job"] == numbers[0]
    listed = [json.loads(line) for line in r8scan("rescan", "list", "--json").stdout.splitlines()]
    assert [job["kind"] for job in listed] == ["repository", "pushes", "pushes", "gist", "owner", "repository"]
    assert "ben/app" in r8scan("rescan", "list").stdout
    assert r8scan("rescan", "cancel", str(numbers[0])).returncode == 0
    assert r8scan("rescan", "cancel", str(numbers[0])).returncode == 1


@pytest.mark.parametrize("redis", ["embedded", "redis://127.0.0.1:1/0"])
def test_a_rescan_that_no_worker_can_start_says_how_to_watch_it_and_ends(
    r8scan: Run, state: Database, redis: str
) -> None:
    done = r8scan("rescan", "repo", "ana/app", env={"R8SCAN_REDIS_URL": redis})
    cause = "r8scan run does not run here" if redis == "embedded" else "Redis does not answer"
    assert (done.returncode, done.stdout) == (3, "job 1 queued\n")
    watch = "watch it with: r8scan jobs show 1 --wait"
    assert done.stderr == f"job 1 waits, because {cause}: a worker starts it later; {watch}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--from", "yesterday"), "write it like 2026-11-23T10"),
        (("--from", "2009-01-01T00"), "begins on 2011-02-12"),
        (("--from", "2026-11-02T00", "--to", "2026-11-01T00"), "in this order"),
        (("--from", "2026-01-01T00", "--to", "2026-11-01T00"), "hours apart"),
    ],
)
def test_malformed_hours_are_a_one_line_error(
    r8scan: Run, state: Database, arguments: tuple[str, ...], line: str
) -> None:
    done = r8scan("backfill", *arguments, env={"R8SCAN_ARCHIVE_URL": "https://archive.example"})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert line in done.stderr


def test_hours_are_queued_once(r8scan: Run, state: Database) -> None:
    assert "set R8SCAN_ARCHIVE_URL" in r8scan("backfill", "--from", "2026-11-01T00").stderr
    arguments = ("backfill", "--from", "2026-11-01T00", "--to", "2026-11-01T03", "--no-wait", "--json")
    env = {"R8SCAN_ARCHIVE_URL": "https://archive.example"}
    first = json.loads(r8scan(*arguments, env=env).stdout)["jobs"]
    assert len(first) == 3
    assert json.loads(r8scan(*arguments, env=env).stdout)["jobs"] == first


def test_filtered_incidents_are_listed_with_the_number_of_others(r8scan: Run, state: Database) -> None:
    with state.write() as session:
        for number, action in enumerate(("disabled", "protected", "protected")):
            session.add(
                Incident(
                    digest=f"{number:064x}",
                    hint="r8_Ab1…xyz9",
                    token_id=str(number),
                    token_name="ci",
                    cause="public_repository",
                    action=action,
                    detected_at=db_now(-number),
                )
            )
    done = r8scan("incidents", "list", "--action", "protected", "--limit", "1", "--json")
    assert [json.loads(line)["action"] for line in done.stdout.splitlines()] == ["protected"]
    assert "1 of 2 shown" in done.stderr
    assert r8scan("incidents", "list", "--mail", "failed", "--json").stdout == ""
    assert r8scan("incidents", "list").stderr == ""
    said = [line for line in r8scan("status").stdout.splitlines() if line[:2] in ("! ", "? ")]
    assert said[-1].startswith("? 2 protected tokens were leaked and not disabled: "), "decisions follow the problems"
    assert all(line.startswith("! ") for line in said[:-1])


def test_a_pasted_address_is_accepted_in_place_of_a_name(r8scan: Run, state: Database) -> None:
    for arguments in (
        ("repo", "git@github.com:ana/app.git"),
        ("repo", "https://github.com/ana/app/blob/main/a.py#L3"),
        ("gist", "https://gist.github.com/ana/0123abcd"),
        ("owner", "github.com/ana"),
    ):
        done = r8scan("rescan", *arguments, "--no-wait", "--json")
        assert done.returncode == 0, done.stderr
    with state.read() as session:
        targets = [job.target for job in session.query(ScanJob).order_by(ScanJob.id)]
    assert [next(target[key] for key in ("repository", "gist", "owner") if key in target) for target in targets] == [
        *("ana/app", "0123abcd", "ana")
    ], "a repository that is named twice is queued once"
    wrong = r8scan("rescan", "repo", "https://github.com/ana")
    assert "leads to a owner" not in wrong.stderr
    assert "write OWNER/NAME" in wrong.stderr

"""Tests for a command that shows the progress of a job until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from sqlalchemy import update

from scanner.github.addresses import Target
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.records.states import JobState
from scanner.sources.rescan.manual import queue
from workers.cli import jobs_watched


def test_ctrl_c_says_that_the_job_continues_and_how_to_watch_or_cancel_it(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with database.write() as session:
        job_id = queue(session, Target("repository", "ana/app")).id

    def pressed(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pressed)
    with pytest.raises(typer.Exit) as ended:
        jobs_watched.watch(database, job_id)
    assert ended.value.exit_code == 130
    todo = f"watch it: r8scan jobs show {job_id} --wait; cancel it: r8scan rescan cancel {job_id}"
    line = f"job {job_id} continues; {todo}"
    assert line in " ".join(capsys.readouterr().err.split())
    with database.read() as session:
        job = session.get(ScanJob, job_id)
        assert job is not None
        assert job.state == JobState.QUEUED


def test_without_a_terminal_each_change_of_a_job_is_one_line_with_the_reason_of_a_retry(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with database.write() as session:
        job_id = queue(session, Target("repository", "ana/app")).id
    changes: Iterator[dict[str, Any]] = iter(
        [
            {},
            {"error": "api.github.com cannot be reached"},
            {"error": None, "state": JobState.RUNNING, "progress": {"phase": "cloning"}},
            {"state": JobState.DONE},
        ]
    )

    def changed(_: float) -> None:
        with database.write() as session:
            if values := next(changes):
                session.execute(update(ScanJob).values(**values))

    monkeypatch.setattr(time, "sleep", changed)
    assert jobs_watched.watch(database, job_id).job.state == JobState.DONE
    assert capsys.readouterr().err.splitlines() == [
        f"job {job_id}: ana/app: waiting for a worker",
        f"job {job_id}: ana/app: waiting to be tried again (api.github.com cannot be reached)",
        f"job {job_id}: ana/app: cloning",
    ]

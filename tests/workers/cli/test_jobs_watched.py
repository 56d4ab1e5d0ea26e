"""Tests of the display of a job's progress. Ctrl-C stops the display, but not the job."""

from __future__ import annotations

import time

import pytest
import typer

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

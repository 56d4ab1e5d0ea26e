"""Tests that every source is registered once and is used by the whole program."""

from __future__ import annotations

from scanner.records.states import JobKind
from scanner.settings import KNOWN_SOURCES
from scanner.sources.registry import SOURCES, droppable_priorities
from scanner.sources.rescan.run import KINDS
from workers.wake import TASKS_OF_JOBS


def test_the_settings_know_the_sources_that_are_registered() -> None:
    assert tuple(SOURCES) == KNOWN_SOURCES


def test_every_kind_of_job_has_a_task() -> None:
    assert {kind for source in SOURCES.values() for kind in source.job_kinds} <= set(TASKS_OF_JOBS)
    assert set(TASKS_OF_JOBS) == {"pushes", "files", *KINDS}


def test_only_jobs_of_polls_may_be_dropped() -> None:
    assert droppable_priorities(JobKind.PUSHES) == (92, 95, 100, 110, 115, 120, 200)
    assert droppable_priorities(JobKind.FILES) == (100, 120, 130)
    assert droppable_priorities(JobKind.REPOSITORY) == (100, 200)
    assert droppable_priorities(JobKind.OWNER) == ()

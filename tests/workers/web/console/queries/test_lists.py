"""Tests that the console's lists and charts agree with the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from scanner.compromise import brake_status
from scanner.records.audit_models import AuditEntry
from scanner.records.database import Database
from scanner.records.models import ApiToken, Notification, ScanJob
from scanner.records.states import Decision
from tests.workers.web.console.filled import fill
from workers.web.console.queries import decisions, figures, lists


def test_the_pages_of_each_list_contain_every_row_once(database: Database) -> None:
    fill(database, incidents=70)
    kinds: tuple[tuple[Callable[..., lists.Listed[Any]], type[Any]], ...] = (
        (lists.job_list, ScanJob),
        (lists.message_list, Notification),
        (lists.audit_list, AuditEntry),
        (lists.token_list, ApiToken),
    )
    with database.read() as session:
        for read, table in kinds:
            total = session.execute(select(func.count()).select_from(table)).scalar_one()
            found, cursor, is_first = [], "", True
            while cursor or is_first:
                listed = read(session, {"before": cursor})
                found += [row.id for row in listed.rows]
                cursor, is_first = listed.older, False
            assert len(found) == len(set(found)) == total, table
        assert lists.job_list(session, {"state": "failed", "kind": "pushes"}).rows
        assert {row.state for row in lists.message_list(session, {"state": "failed"}).rows} == {"failed"}
        assert {row.account and row.account.name for row in lists.token_list(session, {"account": "mira"}).rows} == {
            "mira"
        }
        assert [row.name for row in lists.account_list(session, {"q": "acme"}).rows] == ["acme-weather"]
        assert lists.account_list(session, {"q": "%"}).rows == []
        assert {one.reason for one in lists.failure_reasons(session)} <= {"RepositoryTooLarge", "CloneFailed"}


def test_figures_and_waiting_decisions_agree_with_the_rows(database: Database) -> None:
    fill(database)
    now = datetime.now(UTC)
    with database.read() as session:
        found = figures.load_figures(session, now)
        assert len(found.days) == figures.DAYS
        assert sum(day.number for day in found.days) == 30
        assert found.speeds
        assert found.repositories
        waiting = decisions.waiting(session)
        protected = decisions.open_with(session, Decision.PROTECTED)
        assert (waiting.held, waiting.protected, len(protected)) == (9, 2, 2)
        assert sum(group.number for group in brake_status.held_reports(session)) == 9

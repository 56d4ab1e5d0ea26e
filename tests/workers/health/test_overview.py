"""Tests that reading the status costs little."""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session

from scanner.records.database import Database
from scanner.settings import load_settings
from tests.workers.web.console.filled import fill
from workers.health.overview import overview


def test_the_status_needs_no_model_of_the_object_mapper(database: Database) -> None:
    # For the first statement with a model, SQLAlchemy prepares all models, which takes longer than reading the status.
    fill(database)
    executed: list[ORMExecuteState] = []
    record = executed.append
    event.listen(Session, "do_orm_execute", record)
    try:
        found = overview(database, load_settings())
    finally:
        event.remove(Session, "do_orm_execute", record)
    shown = (found.queues, found.outbox, found.incidents, found.sources, found.decisions.held)
    assert all(shown)
    assert len(executed) > 20
    assert [str(one.statement) for one in executed if one.is_orm_statement] == []

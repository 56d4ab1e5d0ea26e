"""Tests that migrations only add tables, columns and indexes, so that the previous version still works."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import event

from scanner.records import schema, versions
from scanner.records.database import Database

FIRST = 19
"""The first revision that may only add things to the schema. No version with an earlier revision was released."""
DESTRUCTIVE = re.compile(
    r"\b(DROP\s+(TABLE|COLUMN|SCHEMA)|RENAME\s+(TO|COLUMN)|ALTER\s+COLUMN|TRUNCATE|DELETE\s+FROM"
    r"|ADD\s+CONSTRAINT|CREATE\s+UNIQUE\s+INDEX)\b",
    re.IGNORECASE,
)
ADDED = re.compile(r"ADD\s+COLUMN\s+(?P<definition>.*)", re.IGNORECASE | re.DOTALL)
ALLOWED: dict[str, str] = {}
"""The revisions that may do more than add, with the reason for each."""


def problems(statements: list[str]) -> list[str]:
    """Return the SQL statements that could break the previous version of r8scan."""
    found = []
    for statement in statements:
        # Allow any definition of a new table, because the previous version of r8scan does not use that table.
        if re.match(r"\s*(CREATE TABLE|UPDATE alembic_version|INSERT INTO alembic_version)", statement):
            continue
        added = ADDED.search(statement)
        is_demanding = added and "NOT NULL" in added["definition"] and "DEFAULT" not in added["definition"]
        if DESTRUCTIVE.search(statement) or is_demanding:
            found.append(statement)
    return found


def test_each_migration_only_adds(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    schema.upgrade_to(database, f"{FIRST - 1:04d}")
    for number in range(FIRST, int(versions.wanted()) + 1):
        revision = f"{number:04d}"
        statements: list[str] = []

        def keep(*given: Any, kept: list[str] = statements) -> None:
            kept.append(str(given[2]))

        event.listen(database.engine, "before_cursor_execute", keep)
        schema.upgrade_to(database, revision)
        event.remove(database.engine, "before_cursor_execute", keep)
        assert statements, revision
        assert revision in ALLOWED or problems(statements) == [], revision
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        *("DROP TABLE incidents", "ALTER TABLE incidents DROP COLUMN hint", "ALTER TABLE a RENAME TO b"),
        *("ALTER TABLE a RENAME COLUMN x TO y", "ALTER TABLE a ALTER COLUMN x SET NOT NULL"),
        *("ALTER TABLE a ALTER COLUMN x TYPE INTEGER", "ALTER TABLE a ADD COLUMN x INTEGER NOT NULL"),
        *("ALTER TABLE a ADD CONSTRAINT c CHECK (x > 1)", "CREATE UNIQUE INDEX i ON a (x)", "delete from incidents"),
    ],
)
def test_statements_that_remove_or_require_something_are_noticed(statement: str) -> None:
    assert problems([statement]) == [statement]


@pytest.mark.parametrize(
    "statement",
    [
        *("ALTER TABLE a ADD COLUMN x INTEGER", "ALTER TABLE a ADD COLUMN x BOOLEAN DEFAULT false NOT NULL"),
        *("CREATE TABLE a (x INTEGER NOT NULL, CONSTRAINT pk PRIMARY KEY (x))", "CREATE INDEX i ON a (x)"),
        "DROP INDEX i",
    ],
)
def test_statements_that_only_add_are_allowed(statement: str) -> None:
    assert problems([statement]) == []

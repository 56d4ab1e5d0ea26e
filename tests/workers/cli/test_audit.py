"""The exit status of `r8scan audit verify` says whether the audit was changed."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from scanner.records import audit, schema
from scanner.records.audit import Entry
from scanner.records.database import Database
from tests.workers.cli.conftest import Run


def test_a_changed_entry_is_named_and_ends_with_status_1(r8scan: Run, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    schema.upgrade(database)
    with database.write() as session:
        audit.record_all(session, [Entry("done", {"number": number}) for number in range(3)])
    whole = r8scan("audit", "verify", installed=True)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert whole.stdout.startswith("3 entries are as they were written")
    with database.write() as session:
        session.execute(text("DROP TRIGGER audit_only_grows"))
        session.execute(text("UPDATE audit SET who = 'nobody' WHERE id = 2"))
    broken = r8scan("audit", "verify")
    assert (broken.returncode, broken.stdout) == (1, "")
    assert broken.stderr.startswith("r8scan: entry 2 was changed")
    assert broken.stderr.count("\n") == 1
    database.close()


def test_without_tables_it_says_what_to_do(r8scan: Run) -> None:
    result = r8scan("audit", "verify")
    assert result.returncode == 1
    assert "r8scan db upgrade" in result.stderr

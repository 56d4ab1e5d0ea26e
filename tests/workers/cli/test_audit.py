"""Tests for `r8scan audit verify`, which says whether the audit log was changed."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import text

from scanner.records import audit, schema
from scanner.records.audit import Entry
from scanner.records.database import Database
from tests.workers.cli.conftest import Run


def test_a_changed_entry_is_named_and_the_exit_status_is_1(r8scan: Run, tmp_path: Path) -> None:
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


def test_the_audit_says_who_released_the_brake(r8scan: Run, tmp_path: Path) -> None:
    assert r8scan("db", "upgrade").returncode == 0
    none = f"No audit entries of this kind in the database {tmp_path}/state/r8scan.db."

    def listed(*options: str) -> str:
        """Return the output of `audit list` with each line break as a space."""
        return " ".join(r8scan("audit", "list", *options).stdout.split())

    assert listed() == none
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    with database.write() as session:
        audit.record(session, "poll_begun", {})
        audit.record(session, "brake_released", {"reports": 3}, who="operator:ana")
        for number in range(60):
            audit.record(session, "note", {"text": f"{number}"}, who="operator:ben")
    database.close()
    released = r8scan("audit", "list", "--what", "brake_released").stdout
    assert "operator:ana" in released
    assert "reports 3" in released
    assert listed("--what", "brake_relased") == (
        f"{none} No entry has --what brake_relased: did you mean brake_released?"
    )
    assert listed("--who", "zoe") == f"{none} No entry has --who zoe: it can be operator:ana, operator:ben, r8scan"
    assert listed("--who", "operator:ben", "--what", "brake_released") == none
    people = r8scan("audit", "list", "--json", "--limit", "100").stdout.splitlines()
    assert [json.loads(line)["who"] for line in people] == [*["operator:ben"] * 60, "operator:ana"]
    newest = r8scan("audit", "list", "--limit", "55", "--json")
    assert len(newest.stdout.splitlines()) == 55
    assert "poll begun" in r8scan("audit", "list", "--service", "--limit", "100").stdout

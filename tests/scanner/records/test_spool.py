"""Tests that data wait in files while the database is unavailable, and are stored afterwards."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from scanner.records import spool


def test_a_saved_entry_is_committed_once(tmp_path: Path) -> None:
    for number in range(3):
        spool.save(tmp_path, "candidates", {"number": number})
    taken: list[int] = []
    assert spool.drain(tmp_path, lambda kind, content: taken.append(content["number"])) == 3
    assert sorted(taken) == [0, 1, 2]
    assert spool.drain(tmp_path, lambda kind, content: taken.append(-1)) == 0


def test_an_entry_stays_when_it_cannot_be_committed(tmp_path: Path) -> None:
    spool.save(tmp_path, "candidates", {"number": 1})

    def away(kind: str, content: dict[str, Any]) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        spool.drain(tmp_path, away)
    assert spool.drain(tmp_path, lambda kind, content: None) == 1


def test_only_the_owner_of_the_spool_may_read_an_entry(tmp_path: Path) -> None:
    path = spool.save(tmp_path, "candidates", {})
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_damaged_entry_is_set_aside_and_blocks_no_other(tmp_path: Path) -> None:
    spool.save(tmp_path, "candidates", {"number": 1})
    (tmp_path / spool.FOLDER / "00000000.json").write_text("{half")
    assert spool.drain(tmp_path, lambda kind, content: None) == 1
    assert [path.name for path in (tmp_path / spool.FOLDER).iterdir()] == ["00000000.unreadable"]


def test_a_folder_that_cannot_be_written_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / spool.FOLDER).write_text("a file in its place")
    with pytest.raises(spool.SpoolFull, match="spool"):
        spool.save(tmp_path, "candidates", {})


@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 2), ("MAX_BYTES", 200), ("MAX_ENTRY_BYTES", 60)])
def test_every_limit_refuses_the_entry_and_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(spool, limit, value)
    kept = 0
    for _ in range(5):
        with contextlib.suppress(spool.SpoolFull):
            spool.save(tmp_path, "candidates", {"text": "x" * (30 if limit == "MAX_BYTES" else 0) + "y" * 30})
            kept += 1
    assert spool.refused(tmp_path) == 5 - kept
    assert kept < 5
    assert spool.count(tmp_path) == kept


def test_an_old_partial_file_is_removed(tmp_path: Path) -> None:
    spool.save(tmp_path, "candidates", {})
    folder = tmp_path / spool.FOLDER
    for name, age in (("old.partial", spool.PARTIAL_SECONDS + 1), ("young.partial", 1)):
        (folder / name).write_text("{half")
        os.utime(folder / name, (time.time() - age,) * 2)
    assert spool.drain(tmp_path, lambda kind, content: None) == 1
    assert [path.name for path in folder.iterdir()] == ["young.partial"]


def test_an_entry_that_cannot_be_written_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(spool.SpoolFull, match="No space left"):
        spool.save(tmp_path, "candidates", {})
    assert [path.name for path in (tmp_path / spool.FOLDER).iterdir()] == [spool.REFUSED]
    assert spool.refused(tmp_path) == 1

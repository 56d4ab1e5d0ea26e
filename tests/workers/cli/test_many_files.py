"""Tests that `r8scan scan` finds the same tokens in many files as in few."""

from __future__ import annotations

import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from scanner.detection import sha256_digest
from scanner.isolation import file_survey
from tests.hostile.registry import token_of
from workers.cli import scan_sources
from workers.cli.scan_output import progress
from workers.cli.scan_run import ScanRun
from workers.cli.scan_sources import scan_all

LEAKS = [token_of(f"survey {number}") for number in range(3)]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with clean files, and with files that the prefilter cannot decide about."""
    folder = tmp_path / "scanned"
    folder.mkdir()
    for number in range(40):
        (folder / f"clean{number:02}").write_bytes(b"nothing\n")
    (folder / "plain.py").write_bytes(b"key = '" + LEAKS[0] + b"'\n")
    (folder / "packed.gz").write_bytes(gzip.compress(LEAKS[1]))
    (folder / "large").write_bytes(b"x" * file_survey.MAX_FILE_BYTES + b" " + LEAKS[2])
    (folder / "pointer").write_bytes(LFS)
    (folder / "link").symlink_to("clean00")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture
def surveyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `r8scan scan` use its prefilter even for a single file."""
    monkeypatch.setattr(scan_sources, "BATCHES_BEFORE_SURVEY", 0)


def scanned(folder: Path) -> tuple[set[str], dict[str, int], int, int]:
    run: ScanRun = scan_all([str(folder)], history=False, jobs=2, progress=progress)
    return {candidate.digest for candidate in run.candidates}, dict(run.unread), run.files, run.bytes


def test_a_survey_changes_nothing_in_the_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = scanned(folder)
    assert without[0] == {sha256_digest(leak) for leak in LEAKS}
    assert without[1] == {"special_file": 1, "lfs_pointer": 1}
    assert without[2] == 46
    monkeypatch.setattr(scan_sources, "BATCHES_BEFORE_SURVEY", 0)
    assert scanned(folder) == without


@pytest.mark.usefixtures("surveyed")
def test_files_are_read_here_if_the_process_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_survey, "_PROGRAM", "import sys; sys.stdin.buffer.read(4); print('x')")
    assert scanned(folder)[0] == {sha256_digest(leak) for leak in LEAKS}


def test_the_process_is_confined_and_ends_with_the_survey(folder: Path) -> None:
    files = sorted(map(str, folder.iterdir()))
    with ThreadPoolExecutor(1) as pool, file_survey.running(1, pool) as survey:
        are_clean, size = survey.clean(files)
        (child,) = (one for one in psutil.Process().children() if "file_survey" in " ".join(one.cmdline()))
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
    assert not child.is_running()
    dirty = {os.path.basename(file) for file, is_clean in zip(files, are_clean, strict=True) if not is_clean}
    assert dirty == {"plain.py", "packed.gz", "large", "pointer", "link", "pipe"}
    assert size == 40 * len(b"nothing\n")

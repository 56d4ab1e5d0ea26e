"""Tests that hostile names in a command's output cannot control the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from workers.cli import output
from workers.cli.tables import WrappedLine

HOSTILE = "a\x1b[2J\x07\x9b31m\u202egpj.exe\u2028\u200b\x7f\r\n\ud800 é😀"

FAILING = """
import sys
from workers.cli import app
sys.argv = ["r8scan", "status"]

def fail(**_):
    raise KeyError("a\\x1b[2J\\x9b31m\\u202e" + "r8_" + "Ab1" * 12 + "x")

app.build = lambda: fail
app.run()
"""


def test_json_output_contains_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    output.json_lines([{"path": HOSTILE}, {"path": "é😀"}])
    first, second = capsys.readouterr().out.splitlines()
    assert first.isprintable()
    assert json.loads(first) == {"path": HOSTILE}
    assert second == '{"path": "é😀"}'


def test_an_unexpected_error_is_printed_without_control_characters_and_tokens() -> None:
    run = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "KeyError" in run.stderr
    assert all(line.isprintable() for line in run.stderr.splitlines())
    assert "Ab1Ab1" not in run.stderr


def test_a_closed_stream_or_a_terminal_without_columns_does_not_stop_a_command(tmp_path: Path) -> None:
    """Run `--version` with a closed standard output, and `--help` on a terminal with 0 columns."""
    command = str(Path(sys.executable).parent / "r8scan")
    closed = subprocess.run(
        ["sh", "-c", f"exec {command} --version >&-"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (closed.returncode, closed.stderr) == (0, "")
    narrow = {"PATH": os.environ["PATH"], "COLUMNS": "0"}
    helped = subprocess.run([command, "--help"], env=narrow, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "status" in helped.stdout


def test_a_path_that_is_wider_than_the_terminal_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    path = f"/tmp/{'state' * 10}/r8scan.db"
    Console(width=40).print(WrappedLine(f"database: {path}   read at noon"), crop=False)
    assert capsys.readouterr().out.split("\n") == ["database:", path, "read at noon", ""]


def test_a_table_of_many_rows_is_printed_completely_and_without_layout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "console", lambda: pytest.fail("rich would take seconds"))
    rows = [(f"{number}", HOSTILE, None) for number in range(output.MAX_FITTED_ROWS + 1)]
    output.table("found", ("row", "name\nof it", "line"), rows, empty="")
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == "found"
    assert lines[1].split() == ["row", "name", "of", "it", "line"]
    assert [line.split()[0] for line in lines[2:-1]] == [row[0] for row in rows]
    assert all(line.isprintable() for line in lines)
    assert len({line.rindex("-") for line in lines[2:-1]}) == 1, "the columns are aligned"

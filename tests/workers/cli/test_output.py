"""The output of commands cannot control a terminal, even if it contains hostile names."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from workers.cli import output

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

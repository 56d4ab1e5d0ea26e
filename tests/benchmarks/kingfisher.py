"""Runs Kingfisher, another secret scanner, for comparison. Its only rule matches a plain token.

Kingfisher must be on PATH or at the path in the variable KINGFISHER.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

RULE = r"""
rules:
  - name: Vendor token
    id: own.token.1
    pattern: '(r8_[0-9A-Za-z]{37})'
    min_entropy: 0
    confidence: medium
    examples: []
"""


def binary() -> str | None:
    """Return the path of Kingfisher, or None if it is not installed."""
    return os.environ.get("KINGFISHER") or shutil.which("kingfisher")


def command(program: str, target: Path, rule: Path, *options: str) -> list[str]:
    """Return the command line with which Kingfisher scans `target`. `rule` is the path of its rule."""
    rules = ["--rules-path", str(rule), "--load-builtins=false", "--no-validate", "--no-dedup", "--no-update-check"]
    return [program, "scan", str(target), *rules, *options]


def write_rule(folder: Path) -> Path:
    """Write Kingfisher's rule for tokens into the folder, and return the file's path."""
    path = folder / "rule.yml"
    path.write_text(RULE)
    return path


def tokens_by_file(program: str, folder: Path, names: Sequence[str]) -> dict[str, set[str]]:
    """Return the tokens that Kingfisher finds in each of the files `names`."""
    found: dict[str, set[str]] = {name: set() for name in names}
    with tempfile.TemporaryDirectory() as rules:
        options = ("--format", "json", "--git-history", "none")
        line = command(program, folder, write_rule(Path(rules)), *options)
        result = subprocess.run(line, capture_output=True, text=True, check=False)
    for text in result.stdout.splitlines():
        value = json.loads(text)
        for finding in value.get("findings", []) if isinstance(value.get("findings"), list) else []:
            path = str(finding["finding"]["path"])
            for name in names:
                if f"/{name}" in path:
                    found[name].add(str(finding["finding"]["snippet"]))
    return found

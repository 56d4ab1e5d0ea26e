"""Tests that `make sbom` writes a CycloneDX document with every locked package and its hashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_locked_package_is_in_the_document(tmp_path: Path) -> None:
    # Run the command of the target `sbom` without `make`, which would first update the virtual environment.
    shown = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/.development-installed", "sbom"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (command,) = re.findall(r"^\S*/cyclonedx-py (.*)$", shown.replace("\\\n", " "), re.MULTILINE)
    output = tmp_path / "sbom.cdx.json"
    arguments = command.replace("build/sbom.cdx.json", str(output)).split()
    subprocess.run([sys.executable, "-m", "cyclonedx_py", *arguments], cwd=ROOT, check=True, capture_output=True)
    document = json.loads(output.read_text())
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["name"] == "r8scan"
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==(\S+)", lock, re.MULTILINE))
    assert len(locked) > 40
    listed = {(component["name"].lower(), component["version"]) for component in document["components"]}
    assert locked <= listed

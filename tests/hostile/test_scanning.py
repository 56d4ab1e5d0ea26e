"""Tests that `r8scan scan` ends for hostile files and repositories, and finds the tokens in and beside them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scanner.detection.digests import sha256_digest
from tests import commands
from tests.hostile.corpus import INPUTS, inputs_for
from tests.hostile.registry import HostileInput
from tests.hostile.repositories import make_repository

MAX_SECONDS = 500.0
"""A command that takes longer is considered hung."""

pytestmark = pytest.mark.timeout(600)

FAMILIES = sorted({one.family for one in inputs_for("file")})


def scan(target: Path, *options: str) -> tuple[set[str], str]:
    """Run `r8scan scan`. Return the digests of the tokens that it prints, and its error output."""
    environment = {**os.environ, "R8SCAN_STATE_DIR": str(target.parent / "state")}
    done = commands.forked(
        ["scan", str(target), "--format", "json", *options], environment, target.parent, "", seconds=MAX_SECONDS
    )
    assert done.returncode == 1, done.stderr
    return {item["sha256"] for item in map(json.loads, done.stdout.splitlines()) if "sha256" in item}, done.stderr


@pytest.mark.parametrize("family", FAMILIES)
def test_hostile_files_hide_no_token_beside_or_inside_them(tmp_path: Path, family: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    wanted: set[bytes] = set()
    inputs = [one for one in inputs_for("file") if one.family == family]
    for one in inputs:
        (folder / one.name).write_bytes(one.content())
        (folder / f"{one.name}.neighbour").write_bytes(b"key = '" + one.neighbour + b"'\n")
        wanted |= {one.neighbour, one.leak} if one.holds_leak else {one.neighbour}
    found, told = scan(folder)
    assert {sha256_digest(token) for token in wanted} <= found
    if any(one.cannot_be_read for one in inputs):
        assert "not read: " in told


@pytest.mark.parametrize("one", inputs_for("history"), ids=lambda one: one.name)
def test_a_hostile_history_hides_no_token_in_other_commits(tmp_path: Path, one: HostileInput) -> None:
    repository = tmp_path / "repository.git"
    make_repository(repository, one.content(), one.neighbour)
    found, _ = scan(repository, "--history")
    assert sha256_digest(one.neighbour) in found


def test_the_corpus_is_the_same_in_each_run_and_says_what_each_input_is() -> None:
    assert len(INPUTS) > 150
    assert len({(one.family, one.attack) for one in INPUTS.values()}) == len(INPUTS)
    small = [one for one in INPUTS.values() if not one.is_large][::7]
    assert all(one.content() == one.content() for one in small)

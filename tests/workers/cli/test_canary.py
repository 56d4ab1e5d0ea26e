"""Tests for `r8scan canary`, which plants and lists canaries (test tokens)."""

from __future__ import annotations

import json

from tests.workers.cli.conftest import Run


def test_a_planted_canary_is_listed_and_a_way_that_is_off_is_explained(r8scan: Run) -> None:
    planted = r8scan("canary", "plant", "pushes")
    assert (planted.returncode, planted.stdout) == (0, "canary 1 was planted in the queue of pushes\n")
    assert "\nnothing looks for it, because r8scan run does not run here; r8scan canary list" in planted.stderr
    [row] = [json.loads(line) for line in r8scan("canary", "list", "--json").stdout.splitlines()]
    assert (row["id"], row["way"], row["state"], row["ended_at"]) == (1, "pushes", "planted", None)
    listed = r8scan("canary", "list").stdout
    assert "none is planted in the public repository, because R8SCAN_CANARY_REPOSITORY is not set" in listed
    refused = r8scan("canary", "plant", "gist")
    assert refused.returncode == 1
    assert refused.stderr == "r8scan: no canary is planted in the public gist: R8SCAN_CANARY_GIST is not set\n"


def test_a_canary_in_public_needs_a_separate_credential(r8scan: Run) -> None:
    refused = r8scan("canary", "list", env={"R8SCAN_CANARY_REPOSITORY": "acme/canaries"})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "R8SCAN_CANARY_GITHUB_TOKEN must be set" in refused.stderr

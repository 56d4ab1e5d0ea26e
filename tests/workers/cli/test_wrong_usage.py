"""Tests that a wrong command line causes exit status 2 and one line that says what is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
SIGN = "the option --sign is missing (the kind of evidence: abuse_report, stolen_laptop, …); see r8scan report --help"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (("report", "/nope"), SIGN),
        (
            ("incidents", "show"),
            "the argument INCIDENT is missing (the incident's id, the beginning of it, or the hint",
        ),
        (
            ("incidents", "list", "--limit", "abc"),
            "the option --limit must be a whole number; see r8scan incidents list",
        ),
        (
            ("incidents", "list", "--limit", "0"),
            "the option --limit must be 1 or more; see r8scan incidents list --help",
        ),
        (("run", "--processes", "99"), "the option --processes must be 64 or less; see r8scan run --help"),
        (("incidents", "list", "--state", "x"), "the option --state cannot be x: write one of 'open', 'closed'; see"),
        (("incidents", "list", "--action", "x"), "the option --action cannot be x: write one of 'disabled', 'already_"),
        (("status", "--foo"), "no such option: --foo; see r8scan status --help"),
        (("statsu",), "no such command 'statsu'. Did you mean 'status'? See r8scan --help"),
        (("rescan", "repo", "a/b", "c"), "got unexpected extra argument"),
        (("scan", "/nope"), "there is no /nope: name a file or folder that exists"),
        (("incidents", "list", "--since", "x"), "--since must be a day: 2026-11-01, today, yesterday or 7d"),
        (
            ("incidents", "list", "--since", "2026-12-05", "--until", "2026-01-01"),
            "--since is after --until: no incident",
        ),
        (("incidents", "export", "--format", "csv", "--since", "today", "--until", "2d"), "--since is after --until"),
        (("jobs", "list", "--kind", "repo"), "the option --kind cannot be repo: write one of 'pushes', 'files', "),
        (
            ("rescan", "repo", "https://gitlab.com/a/b"),
            "https://gitlab.com/a/b: not an address of github.com: give https://github.com/OWNER/NAME or a page below",
        ),
        (("store", "check", "foo"), "foo is no address of a store: write http://… or https://…"),
        (("rescan", "repo", "x"), "x cannot be understood: write OWNER/NAME, or paste its address"),
        (("rescan", "repo", ""), "an empty text cannot be understood: write OWNER/NAME, or paste its address"),
        (("accounts", "erase"), "give the account's name, or --id"),
        (("jobs", "show", "9" * 23), "the argument JOB must be 9223372036854775807 or less; see r8scan jobs show"),
        (("incidents", "list", "-q", "a" * 201), "--search is longer than 200 characters"),
        (("incidents", "list", "--cause", ""), "the option --cause is empty: write one of 'public_repository'"),
        (("email", "test", "nobody"), "ADDRESS must be a mail address (An email address must have an @-sign.)"),
    ],
)
def test_a_wrong_command_line_is_one_line(r8scan: Run, command: tuple[str, ...], line: str) -> None:
    done = r8scan(*command)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"r8scan: {line}")


def test_a_group_without_a_command_shows_its_help_and_nothing_else(r8scan: Run) -> None:
    done = r8scan("brake")
    assert (done.returncode, done.stderr) == (2, "")
    assert "Usage: r8scan brake" in done.stdout


def test_a_token_on_the_command_line_is_not_repeated(r8scan: Run) -> None:
    token = f"r8_{'aB3' * 12}x"
    done = r8scan("tokens", "list", "--state", token)
    assert done.returncode == 2
    assert token not in done.stderr

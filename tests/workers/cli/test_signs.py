"""Tests for the commands that report compromised tokens and store records of a token's use."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from scanner.detection import sha256_digest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def with_tokens(r8scan: Run, make: Callable[[], str], number: int) -> list[str]:
    assert r8scan("db", "upgrade").returncode == 0
    tokens = [make() for _ in range(number)]
    rows = "".join(f"ana@example.com,acme,ci,{token}\n" for token in tokens)
    assert r8scan("tokens", "import", "-", stdin=f"email,account,name,token\n{rows}").returncode == 0
    return tokens


def live(r8scan: Run) -> int:
    lines = r8scan("tokens", "list", "--json").stdout.splitlines()
    return sum(json.loads(line)["disabled_at"] is None for line in lines)


def test_tokens_and_digests_are_reported(r8scan: Run, tmp_path: Path, fresh_token: Callable[[], str]) -> None:
    tokens = with_tokens(r8scan, fresh_token, 3)
    stranger = fresh_token()
    lines = [tokens[0], "", sha256_digest(tokens[1].encode()).upper(), tokens[2][:-1], stranger, "x" * 3000]
    (tmp_path / "stolen.txt").write_text("\n".join(lines))
    command = ("report", "stolen.txt", "--sign", "stolen_laptop", "--note", f"it had {stranger} too", "--json")
    result = r8scan(*command)
    assert result.returncode == 1
    told = json.loads(result.stdout)
    assert (told["disabled"], told["unknown"], told["bad"], told["bad_lines"]) == (2, 1, 2, [4, 6])
    assert "line 4 is neither a token" in result.stderr
    assert "line 6 is longer" in result.stderr
    assert live(r8scan) == 1
    again = json.loads(r8scan(*command).stdout)
    assert (again["disabled"], again["repeated"]) == (0, 3)
    shown = r8scan("incidents", "list", "--json").stdout
    incident = json.loads(shown.splitlines()[0])
    assert incident["cause"] == "compromise_signs"
    detail = r8scan("incidents", "show", incident["id"], "--json").stdout
    assert json.loads(detail)["signs"][0]["sign"] == "stolen_laptop"
    everything = result.stdout + result.stderr + shown + detail
    assert not [token for token in (*tokens, stranger) if token[8:30] in everything]


def test_tokens_are_found_in_any_file_and_none_is_printed(
    r8scan: Run, tmp_path: Path, fresh_token: Callable[[], str]
) -> None:
    tokens = with_tokens(r8scan, fresh_token, 4)
    stranger = fresh_token()
    hidden = base64.b64encode(f"key: {tokens[2]}".encode()).decode()
    with zipfile.ZipFile(tmp_path / "laptop.zip", "w") as archive:
        archive.writestr("notes.txt", f"one {tokens[0]}, two {tokens[1]}, again {tokens[0]}\n{hidden}\n{stranger}\n")
        archive.writestr("old.rar", b"Rar!\x1a\x07\x01\x00" + bytes(100))
    result = r8scan("report", "laptop.zip", "--sign", "stolen_laptop")
    assert (result.returncode, result.stderr) == (2, "not read: 1 × unsupported container:rar\n")
    assert result.stdout == "4 tokens found: 1 base64, 3 plain\n3 disabled now; 1 unknown to the token store\n"
    assert not [token for token in (*tokens, stranger) if token[8:30] in result.stdout]
    listed = r8scan("report", "--sign", "x", stdin=f"{tokens[3]}\n{tokens[0]}\ntoken={tokens[1]}\n")
    assert listed.returncode == 0, "a line of the list may contain a token among other words"
    assert listed.stdout == "3 tokens found: 3 plain\n1 disabled now; 2 disabled before\n"
    nothing = r8scan("report", "--sign", "x", stdin="nothing here\n")
    assert (nothing.returncode, nothing.stdout) == (1, "no token found\n")
    assert live(r8scan) == 0


def test_wrong_options_are_refused_before_anything_is_read(r8scan: Run, fresh_token: Callable[[], str]) -> None:
    token = with_tokens(r8scan, fresh_token, 1)[0]
    for arguments in (("--sign", "Not A Word"), ("--sign", "x", "--key", "k" * 300)):
        result = r8scan("report", "-", *arguments, stdin=token)
        assert (result.returncode, result.stdout) == (2, "")
        assert "the report has a wrong" in result.stderr
    result = r8scan("report", token, "--sign", "x")
    assert (result.returncode, token[8:30] in result.stderr + result.stdout) == (1, False)
    assert "cannot read " in result.stderr
    assert live(r8scan) == 1


def test_the_brake_holds_releases_and_rejects(r8scan: Run, fresh_token: Callable[[], str]) -> None:
    tokens = with_tokens(r8scan, fresh_token, 6)
    env = {"R8SCAN_BRAKE_PER_MINUTE": "2"}
    first = r8scan("report", "--sign", "abuse_report", stdin="\n".join(tokens[:4]), env=env)
    assert first.returncode == 0
    assert "2 disabled" in first.stdout
    assert "2 held" in first.stdout
    assert "r8scan brake status" in first.stderr
    shown = json.loads(r8scan("brake", "status", "--json", env=env).stdout)
    assert (shown["held"], shown["per_minute"], bool(shown["closed_at"])) == (2, 2, True)
    assert [one["number"] for one in shown["held_by"]] == [2]
    told = r8scan("brake", "status", env=env).stdout.splitlines()
    assert told[0].startswith("holding since ")
    assert told[1] == "2 reports are held"
    assert re.fullmatch(r"  2 by operator\S* \(abuse report\)", told[2])
    asked = r8scan("brake", "release", env=env, stdin="n\n")
    assert (asked.returncode, live(r8scan)) == (1, 4)
    assert "2 by operator" in asked.stderr
    assert "Disable 2 reported tokens?" in asked.stderr
    assert r8scan("brake", "release", env=env, stdin="y\n").stdout == "2 reports are released: 2 disabled\n"
    assert live(r8scan) == 2
    r8scan("report", "--sign", "abuse_report", stdin="\n".join(tokens[4:]), env=env | {"R8SCAN_BRAKE_PER_MINUTE": "0"})
    assert "2 reports are rejected" in r8scan("brake", "reject", "--yes", env=env).stdout
    assert r8scan("brake", "status").stdout.startswith("not holding: reports disable tokens at once")
    assert json.loads(r8scan("brake", "status", "--json").stdout)["closed_at"] is None
    assert live(r8scan) == 2


def test_usage_is_stored_and_the_rules_judge_it(r8scan: Run, tmp_path: Path, fresh_token: Callable[[], str]) -> None:
    token = with_tokens(r8scan, fresh_token, 1)[0]
    (tmp_path / "listed.txt").write_text("203.0.113.0/25\n")
    now = datetime.now(UTC).isoformat()
    good = json.dumps({"token": token, "time": now, "ip": "203.0.113.5", "user_agent": f"with {token}"})
    env = {"R8SCAN_USAGE_LISTED_FILE": str(tmp_path / "listed.txt")}
    result = r8scan("usage", "-", stdin=f"{good}\nnonsense\n{good}\n", env=env)
    assert (result.returncode, result.stdout) == (1, "2 records, 1 bad, 1 flagged\n")
    assert "line 2 is not JSON" in result.stderr
    assert live(r8scan) == 1
    disabling = r8scan("usage", "--json", stdin=good, env=env | {"R8SCAN_USAGE_LISTED": "disable"})
    assert json.loads(disabling.stdout)["decisions"] == {"disabled": 1}
    assert live(r8scan) == 0
    (tmp_path / "listed.txt").write_text("nonsense\n")
    wrong = r8scan("usage", stdin=good, env=env)
    assert wrong.returncode == 1
    assert "R8SCAN_USAGE_LISTED_FILE line 1 is not a network" in wrong.stderr

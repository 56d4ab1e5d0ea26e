"""Tests for `r8scan scan` on files, folders, streams and git histories."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scanner.detection import sha256_digest
from workers.sandbox import token_store
from workers.sandbox.git_backend import git
from workers.sandbox.token_store import ReferenceStore
from workers.sandbox.workplace import Workplace

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Token = Callable[[], str]
KEYS = ["sha256", "hint", "encoding", "kind", "path", "line", "column", "commit", "object", "container"]


def found(result: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_token_in_a_file_is_found_with_line_and_column_and_not_shown(
    r8scan: Run, tmp_path: Path, fresh_token: Token
) -> None:
    token = fresh_token()
    (tmp_path / "a.py").write_text(f"one\nx = '{token}'\n")
    result = r8scan("scan", "a.py", "--format", "json")
    assert result.returncode == 1
    (line,) = found(result)
    assert list(line) == KEYS
    assert (line["sha256"], line["path"], line["line"], line["column"]) == (sha256_digest(token.encode()), "a.py", 2, 6)
    assert "1 found in 1 file " in result.stderr
    for form in ("table", "json", "sarif"):
        shown = r8scan("scan", "a.py", "--format", form)
        assert token not in shown.stdout + shown.stderr


def test_a_clean_scan_says_how_much_was_read(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("nothing")
    result = r8scan("scan", ".")
    assert result.returncode == 0
    assert "no token found in 1 file (7 B)" in result.stderr


def test_no_folder_name_or_comment_is_skipped(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    places = ["node_modules/x/package-lock.json", ".hidden/file", "a.min.js", "vendor/lib.map", "test/fixture.svg"]
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(f"key {fresh_token()} # gitleaks:allow nosec trufflehog:ignore")
    result = r8scan("scan", ".", "--format", "json")
    assert {str(line["path"]) for line in found(result)} == set(places)


def test_standard_input_and_archives_are_read(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    assert [line["path"] for line in found(r8scan("scan", "-", "--format", "json", stdin=f"a {token}"))] == ["-"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        content = base64.b64encode(f"login {token} x".encode())
        entry = tarfile.TarInfo("conf/settings")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    (tmp_path / "backup").write_bytes(buffer.getvalue())
    (line,) = found(r8scan("scan", "backup", "--format", "json"))
    assert line["sha256"] == sha256_digest(token.encode())
    assert "base64" in str(line["encoding"])
    assert str(line["container"]).endswith("conf/settings")


def test_a_work_tree_says_that_its_history_was_not_read_until_it_is(
    r8scan: Run, tmp_path: Path, fresh_token: Token
) -> None:
    token = fresh_token()
    work = Workplace(tmp_path / "repo", "nowhere")
    work.start()
    work.write("a.txt", token)
    first = work.commit("oops")
    work.write("a.txt", "gone")
    work.commit("gone")
    without = r8scan("scan", "repo")
    assert without.returncode == 0
    assert "add --history" in without.stderr
    result = r8scan("scan", "repo", "--history", "--format", "json")
    assert result.returncode == 1
    (line,) = found(result)
    assert (line["path"], line["commit"], line["kind"]) == ("a.txt", first, "file")
    assert line["object"]
    git("clone", "-q", "--mirror", work.path, tmp_path / "bare.git")
    assert len(found(r8scan("scan", "bare.git", "--format", "json"))) == 1
    work.git("bundle", "create", str(tmp_path / "all.bundle"), "--all")
    (bundled,) = found(r8scan("scan", "all.bundle", "--history", "--format", "json"))
    assert (bundled["path"], bundled["commit"]) == ("a.txt", first)


def test_unread_files_are_counted_and_set_the_exit_status(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04" + os.urandom(100))
    result = r8scan("scan", ".")
    assert result.returncode == 2
    assert "not read: 1 × special file" in result.stderr
    (tmp_path / "a").write_text(fresh_token())
    assert r8scan("scan", ".").returncode == 1


def test_a_link_is_not_followed_but_its_target_is_read(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "loop").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "link").symlink_to(f"/nowhere/{token}")
    assert [line["path"] for line in found(r8scan("scan", "d", "--format", "json"))] == ["d/link"]


def test_hostile_names_are_printed_without_control_characters(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    name = "a\x1b[2J\n\u202e.txt"
    (tmp_path / name).write_text(fresh_token())
    table = r8scan("scan", ".")
    assert "\x1b[2J" not in table.stdout
    assert "\u202e" not in table.stdout
    (line,) = found(r8scan("scan", ".", "--format", "json"))
    assert line["path"] == name
    os.rename(tmp_path / name, os.fsencode(tmp_path) + b"/\xff\xfe")
    assert r8scan("scan", ".", "--format", "json").returncode == 1


def test_the_sarif_report_has_the_fields_that_its_readers_need(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    (tmp_path / "a b.py").write_text(f"\n{fresh_token()}\n")
    log = json.loads(r8scan("scan", ".", "--format", "sarif").stdout)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    (result,) = run["results"]
    assert result["ruleId"] in rules
    physical = result["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == "a%20b.py"
    assert physical["region"] == {"startLine": 2, "startColumn": 1}


def test_the_store_is_queried_and_not_changed(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    tokens = {"live": fresh_token(), "disabled": fresh_token(), "unknown": fresh_token()}
    assert r8scan("db", "upgrade").returncode == 0
    for state in ("live", "disabled"):
        r8scan("tokens", "add", "--name", state, stdin=tokens[state] + "\n")
    r8scan("tokens", "disable", "--sha256", sha256_digest(tokens["disabled"].encode()))
    before = r8scan("tokens", "list", "--json").stdout
    for state, token in tokens.items():
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / state).write_text(token)
    lines = found(r8scan("scan", "d", "--known", "--format", "json"))
    assert {line["path"]: line["known"] for line in lines} == {f"d/{state}": state for state in tokens}
    assert r8scan("tokens", "list", "--json").stdout == before


@pytest.fixture
def http_store() -> Iterator[ReferenceStore]:
    """Yield a running token store with an HTTP API."""
    store = ReferenceStore("the-secret")
    with token_store.running(store):
        yield store


def settings_of(store: ReferenceStore) -> dict[str, str]:
    return {"R8SCAN_TOKEN_STORE_URL": store.url, "R8SCAN_TOKEN_STORE_SECRET": store.secret}


def test_a_store_behind_http_is_queried_and_not_changed(
    r8scan: Run, tmp_path: Path, fresh_token: Token, http_store: ReferenceStore
) -> None:
    tokens = {"live": fresh_token(), "disabled": fresh_token(), "unknown": fresh_token()}
    digests = {state: sha256_digest(token.encode()) for state, token in tokens.items()}
    http_store.add(digests["live"])
    http_store.add(digests["disabled"])
    http_store.disable(digests["disabled"], "a-key", "a test")
    http_store.calls.clear()
    (tmp_path / "d").mkdir()
    for state, token in tokens.items():
        (tmp_path / "d" / state).write_text(token)
    lines = found(r8scan("scan", "d", "--known", "--format", "json", env=settings_of(http_store)))
    assert {line["path"]: line["known"] for line in lines} == {f"d/{state}": state for state in tokens}
    assert http_store.calls == ["lookup"]


def test_a_token_that_the_store_cannot_check_now_is_not_called_unknown(
    r8scan: Run, tmp_path: Path, fresh_token: Token, http_store: ReferenceStore
) -> None:
    (tmp_path / "a").write_text(fresh_token())
    with http_store.unsure():
        (line,) = found(r8scan("scan", "a", "--known", "--format", "json", env=settings_of(http_store)))
    assert line["known"] == "not_checked"


def test_an_unavailable_store_discards_no_finding(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    (tmp_path / "a").write_text(fresh_token())
    env = {"R8SCAN_TOKEN_STORE_URL": "http://127.0.0.1:1"}
    result = r8scan("scan", "a", "--known", "--format", "json", env=env)
    assert result.returncode == 1
    assert result.stderr.startswith("the findings were not looked up: the token store is unavailable (")
    assert [line["known"] for line in found(result)] == ["not_checked"]


@pytest.mark.parametrize("arguments", [("no-such-file",), ("a", "no-such-file")])
def test_a_path_that_does_not_exist_is_a_one_line_error(
    r8scan: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "a").write_text("")
    result = r8scan("scan", *arguments)
    assert result.returncode == 2
    assert (
        result.stderr
        == "r8scan: there is no no-such-file: name a file or folder that exists, or - for standard input\n"
    )

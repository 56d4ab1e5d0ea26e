"""Tests that `r8scan scan` reads every git repository below a path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanner.detection import sha256_digest
from workers.sandbox.git_backend import git
from workers.sandbox.workplace import Workplace

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Token = Callable[[], str]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 5\n"


def lines(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def found(result: subprocess.CompletedProcess[str]) -> set[str]:
    return {line["sha256"] for line in lines(result) if "sha256" in line}


def not_read(result: subprocess.CompletedProcess[str]) -> list[tuple[str, str]]:
    return [(line["not_read"], line["path"]) for line in lines(result) if "not_read" in line]


def digest(token: str) -> str:
    return sha256_digest(token.encode())


def repository(path: Path, token: str) -> Workplace:
    """Create a repository with the token in its history, but not in its newest files."""
    work = Workplace(path, "nowhere")
    work.start()
    work.write("src/a.txt", token)
    work.commit("oops")
    work.write("src/a.txt", "gone")
    work.commit("gone")
    return work


def scan(r8scan: Run, *arguments: str) -> subprocess.CompletedProcess[str]:
    return r8scan("scan", *arguments, "--format", "json")


def test_a_folder_of_clones_is_read_with_all_their_histories(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    tokens = [fresh_token() for _ in range(3)]
    for number, token in enumerate(tokens):
        repository(tmp_path / "clones" / f"d{number}" / "repo", token)
    result = scan(r8scan, "clones", "--history")
    assert (found(result), result.returncode) == ({digest(token) for token in tokens}, 1)
    assert {line["path"] for line in lines(result)} == {f"clones/d{number}/repo/src/a.txt" for number in range(3)}
    without = scan(r8scan, "clones")
    assert without.stderr.count("the history was not read; add --history") == 3


def test_a_subfolder_of_a_clone_is_read_with_the_clones_history(
    r8scan: Run, tmp_path: Path, fresh_token: Token
) -> None:
    token = fresh_token()
    repository(tmp_path / "repo", token)
    for path in ("repo/src", "repo/src/a.txt"):
        result = scan(r8scan, path, "--history")
        assert found(result) == {digest(token)}
        assert "whose whole history was read" in result.stderr


@pytest.mark.parametrize("options", [(), ("--history",)])
def test_a_nested_bare_repository_is_always_read(
    r8scan: Run, tmp_path: Path, fresh_token: Token, options: tuple[str, ...]
) -> None:
    token, beside = fresh_token(), fresh_token()
    work = repository(tmp_path / "repo", token)
    git("clone", "-q", "--mirror", work.path, tmp_path / "d" / "backup.git")
    (tmp_path / "d" / "backup.git" / "objects" / "notes.txt").write_text(beside)
    assert found(scan(r8scan, "d", *options)) == {digest(token), digest(beside)}


def test_a_git_directory_itself_is_always_read(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    repository(tmp_path / "repo", token)
    assert found(scan(r8scan, "repo/.git")) == {digest(token)}


def test_submodules_are_read_and_those_that_were_not_cloned_are_named(
    r8scan: Run, tmp_path: Path, fresh_token: Token
) -> None:
    token = fresh_token()
    inner = repository(tmp_path / "inner", token)
    outer = repository(tmp_path / "outer", "nothing")
    outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.path), "module")
    outer.commit("module")
    assert found(scan(r8scan, "outer", "--history")) == {digest(token)}
    assert found(scan(r8scan, "outer/module", "--history")) == {digest(token)}
    git("-c", "protocol.file.allow=always", "clone", "-q", outer.path, tmp_path / "bare-of-it")
    result = scan(r8scan, "bare-of-it", "--history")
    assert (not_read(result), result.returncode) == ([("submodule_missing", "bare-of-it/module")], 2)


def test_a_missing_git_directory_is_named(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / "stale").mkdir()
    (tmp_path / "stale" / ".git").write_text("gitdir: /nowhere/.git/worktrees/stale\n")
    (tmp_path / "stale" / "a").write_text("a")
    result = scan(r8scan, "stale", "--history")
    assert (not_read(result), result.returncode) == ([("git_directory_missing", "stale/.git")], 2)


def test_missing_alternates_are_named(r8scan: Run, tmp_path: Path) -> None:
    repository(tmp_path / "repo", "nothing")
    git("clone", "-q", "--shared", tmp_path / "repo", tmp_path / "borrows")
    assert scan(r8scan, "borrows", "--history").returncode == 0
    shutil.rmtree(tmp_path / "repo")
    result = scan(r8scan, "borrows", "--history")
    assert (not_read(result), result.returncode) == ([("alternate_missing", "borrows")], 2)


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_bundles_are_read_inside_a_folder_too(r8scan: Run, tmp_path: Path, fresh_token: Token, form: str) -> None:
    token = fresh_token()
    git("init", "-q", f"--object-format={form}", "--template=", tmp_path / "repo")
    work = Workplace(tmp_path / "repo", "nowhere")
    work.write("a", token)
    work.commit("x")
    (tmp_path / "d").mkdir()
    work.git("bundle", "create", "-q", str(tmp_path / "d" / "all.bundle"), "--all")
    for path in ("d/all.bundle", "d"):
        for options in ((), ("--history",)):
            result = scan(r8scan, path, *options)
            assert found(result) == {digest(token)}
            assert not_read(result) == []


def test_a_thin_bundle_is_named_and_read_as_far_as_it_goes(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    work = repository(tmp_path / "repo", "nothing")
    work.write("b", token)
    work.commit("new")
    work.git("bundle", "create", "-q", str(tmp_path / "thin.bundle"), "HEAD~1..HEAD")
    result = scan(r8scan, "thin.bundle", "--history")
    assert found(result) == {digest(token)}
    assert ("bundle_unreadable", "thin.bundle") in not_read(result)


def test_a_folder_called_objects_beside_a_file_called_head_is_no_repository(
    r8scan: Run, tmp_path: Path, fresh_token: Token
) -> None:
    token = fresh_token()
    (tmp_path / "d" / "objects" / "ab").mkdir(parents=True)
    (tmp_path / "d" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "d" / "objects" / "ab" / ("c" * 38)).write_text(token)
    assert found(scan(r8scan, "d")) == {digest(token)}


def test_a_repository_that_git_cannot_read_is_named(r8scan: Run, tmp_path: Path) -> None:
    for folder in ("objects", "refs"):
        (tmp_path / "d.git" / folder).mkdir(parents=True)
    (tmp_path / "d.git" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "d.git" / "objects" / "pack").write_text("no folder")
    result = scan(r8scan, "d.git")
    assert (not_read(result), result.returncode) == ([("object_folder_unreadable", "d.git")], 2)


def test_files_among_the_objects_that_git_does_not_read_are_scanned(
    r8scan: Run, tmp_path: Path, fresh_token: Token
) -> None:
    work = repository(tmp_path / "repo", "nothing")
    work.git("repack", "-adbq")
    objects = tmp_path / "repo" / ".git" / "objects"
    (pack,) = (objects / "pack").glob("*.pack")
    files = [objects / "pack" / f"pack-ab{suffix}" for suffix in (".keep", ".pack", ".idx")]
    files += [pack.with_suffix(suffix) for suffix in (".keep", ".promisor", ".rev", ".bitmap", ".mtimes")]
    files += [objects / "pack" / "multi-pack-index", objects / "info" / "commit-graph"]
    tokens = [fresh_token() for _ in files]
    for file, token in zip(files, tokens, strict=True):
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(token)
    result = scan(r8scan, "repo", "--history")
    assert found(result) == set(map(digest, tokens))
    assert sorted(not_read(result)) == [("pack_index_damaged", "repo"), ("partial_clone", "repo")]


def test_a_pack_without_an_index_is_read_as_a_file(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    work = repository(tmp_path / "repo", token)
    work.git("repack", "-adq")
    (index,) = (tmp_path / "repo" / ".git" / "objects" / "pack").glob("*.idx")
    index.unlink()
    assert digest(token) in found(scan(r8scan, "repo", "--history"))


def test_files_that_git_derives_from_objects_do_not_count_as_unread(
    r8scan: Run, tmp_path: Path, fresh_token: Token
) -> None:
    token = fresh_token()
    work = repository(tmp_path / "repo", token)
    work.git("repack", "-adbq")
    work.git("commit-graph", "write", "--reachable")
    work.git("multi-pack-index", "write")
    result = scan(r8scan, "repo", "--history")
    assert (found(result), not_read(result), result.returncode) == ({digest(token)}, [], 1)


def test_pointers_to_large_files_are_named_in_folders_and_histories(r8scan: Run, tmp_path: Path) -> None:
    work = repository(tmp_path / "repo", "nothing")
    work.write("model.bin", POINTER)
    commit = work.commit("pointer")
    folder = scan(r8scan, "repo")
    assert (not_read(folder), folder.returncode) == ([("lfs_pointer", "repo/model.bin")], 2)
    history = scan(r8scan, "repo", "--history")
    named = [line for line in lines(history) if line.get("object")]
    oid = work.git("rev-parse", "HEAD:model.bin").strip()
    assert named == [{"not_read": "lfs_pointer", "count": 1, "path": "repo/model.bin", "object": oid, "commit": commit}]


def test_a_token_in_the_name_of_a_file_or_folder_is_found(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    tokens = [fresh_token() for _ in range(3)]
    (tmp_path / "d" / tokens[0]).mkdir(parents=True)
    (tmp_path / "d" / f"key-{tokens[1]}.txt").write_text("x")
    os.mkfifo(tmp_path / "d" / tokens[2])
    result = scan(r8scan, "d")
    assert found(result) == {digest(token) for token in tokens}
    assert {line["kind"] for line in lines(result) if "sha256" in line} == {"file_name"}
    assert not any(token in result.stdout + result.stderr for token in tokens)
    alone = scan(r8scan, f"d/key-{tokens[1]}.txt")
    assert found(alone) == {digest(tokens[1])}


def test_unread_items_are_named_in_every_format(r8scan: Run, tmp_path: Path, fresh_token: Token) -> None:
    in_name = fresh_token()
    for number in range(25):
        (tmp_path / f"f{number:02}").write_text(POINTER)
    (tmp_path / in_name).write_text(POINTER)
    table = r8scan("scan", ".")
    assert "f00: lfs pointer" in table.stderr
    assert table.stderr.count(": lfs pointer") == 20
    assert "and 6 more" in table.stderr
    assert len(not_read(scan(r8scan, "."))) == 26
    sarif = r8scan("scan", ".", "--format", "sarif")
    (run,) = json.loads(sarif.stdout)["runs"]
    notifications = run["invocations"][0]["toolExecutionNotifications"]
    places = [one for one in notifications if "locations" in one]
    assert len(places) == 26
    assert places[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "f00"
    assert places[0]["properties"] == {"reason": "lfs_pointer", "count": 1}
    assert not any(in_name in text for text in (table.stderr, sarif.stdout))

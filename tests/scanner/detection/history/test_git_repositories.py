"""Tests for hostile repositories: they cannot start programs, make git read other folders, or stop the scan."""

from __future__ import annotations

import os
import stat
import zlib
from pathlib import Path

import pytest

from scanner.detection import sha256_digest
from scanner.detection.git import git_formats
from scanner.detection.history import git_repositories, history_reader, history_stores
from scanner.detection.history.git_processes import GitError
from scanner.detection.history.git_repositories import opened, unbundled
from scanner.detection.history.scan import HistoryScan
from tests.scanner.detection.repositories import Token, scanned
from workers.sandbox.git_backend import git
from workers.sandbox.workplace import Workplace


def digests(found: HistoryScan) -> set[str]:
    return {candidate.digest for candidate in found.candidates}


def digest(token: str) -> str:
    return sha256_digest(token.encode())


HOSTILE_CONFIG = """
[core]
    fsmonitor = {run}
    pager = {run}
    editor = {run}
    sshCommand = {run}
    gitProxy = {run}
    askPass = {run}
    hooksPath = {folder}/hooks
    alternateRefsCommand = {run}
    attributesFile = {folder}/attributes
    repositoryformatversion = 1
[include]
    path = {folder}/included
[includeIf "gitdir:**"]
    path = {folder}/included
[alias]
    log = !{run}
    rev-list = !{run}
    cat-file = !{run}
[diff]
    external = {run}
[diff "trap"]
    textconv = {run}
    command = {run}
[filter "trap"]
    clean = {run}
    smudge = {run}
    process = {run}
[merge "trap"]
    driver = {run}
[credential]
    helper = !{run}
[gpg]
    program = {run}
[log]
    showSignature = true
[uploadpack]
    packObjectsHook = {run}
[remote "origin"]
    url = ext::{run}
    uploadpack = {run}
    promisor = true
[extensions]
    partialClone = origin
[trace2]
    eventTarget = {trap}
[pager]
    cat-file = {run}
    rev-list = {run}
"""


def test_no_setting_attribute_or_hook_of_a_repository_runs_a_program(
    work: Workplace, fresh_token: Token, tmp_path: Path
) -> None:
    token, trap = fresh_token(), tmp_path / "sprung"
    folder = tmp_path / "hostile"
    (folder / "hooks").mkdir(parents=True)
    script = folder / "run.sh"
    script.write_text(f"#!/bin/sh\ntouch {trap}\nexit 1\n")
    script.chmod(0o755)
    for hook in ("post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc", "fsmonitor-watchman"):
        (folder / "hooks" / hook).symlink_to(script)
    (folder / "attributes").write_text("* diff=trap filter=trap merge=trap\n")
    (folder / "included").write_text(f"[core]\n\tfsmonitor = {script}\n\tpager = {script}\n")
    work.write(".gitattributes", "* diff=trap filter=trap merge=trap\n")
    work.write("a", token)
    missing = work.commit("trap")
    (work.path / ".git" / "refs" / "heads" / "gone").write_text("1" * 40 + "\n")
    text = HOSTILE_CONFIG.format(run=script, folder=folder, trap=trap)
    (work.path / ".git" / "config").write_text(text)
    found = scanned(work.path / ".git")
    assert [(c.digest, c.place.path, c.place.commit) for c in found.candidates] == [(digest(token), "a", missing)]
    assert not trap.exists()


def test_git_gets_no_configuration_but_ours(work: Workplace) -> None:
    work.commit("x")
    (work.path / ".git" / "config").write_text("[core]\n\tfsmonitor = /bin/false\n[objectformat]\n\tx = sha256\n")
    with opened(work.path / ".git") as repository:
        assert "fsmonitor" not in (repository.git_dir / "config").read_text()
        assert not (repository.git_dir / "hooks").exists()
        folder = repository.git_dir
    assert not folder.exists()


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(
    ("form", "config"),
    [
        ("sha1", "[foo]\n\tobjectformat = sha256\n"),
        ("sha1", "[extensions]\n\tobjectformat = sha256\n"),
        ("sha256", "[extensions] objectformat = sha256\n"),
        ("sha256", '[a][Extensions]\n# x\nobjectformat = sha1\nObjectFormat="sha256" ; y\n'),
        ("sha256", ""),
    ],
)
def test_the_object_format_is_that_of_the_objects_whatever_the_configuration_says(
    tmp_path: Path, fresh_token: Token, form: str, config: str, is_packed: bool
) -> None:
    token = fresh_token()
    git("init", "-q", f"--object-format={form}", "--template=", tmp_path / "made")
    work = Workplace(tmp_path / "made", "nowhere")
    work.write("a", token)
    work.commit("x")
    if is_packed:
        work.git("repack", "-adq")
    (work.path / ".git" / "config").write_text(config)
    result = scanned(work.path / ".git")
    assert (digests(result), result.unread) == ({digest(token)}, {})


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (b"[foo]\nobjectformat = sha256", 20),
        (b"[extensions] objectformat = sha256", 32),
        (b'[EXTENSIONS]\n ObjectFormat = "sha256" # x', 32),
        (b"[extensions]\n# objectformat = sha256", 20),
        (b"[extensions]\nobjectformat = sha256\nobjectformat = sha1", 20),
        (b'[extensions "x"]\nobjectformat = sha256', 20),
    ],
)
def test_the_configured_object_format_is_parsed_as_git_does(config: bytes, size: int) -> None:
    assert git_formats.configured(config) == size


def test_objects_of_the_other_format_are_counted(work: Workplace) -> None:
    work.commit("x")
    (work.path / ".git" / "objects" / "ab").mkdir(exist_ok=True)
    (work.path / ".git" / "objects" / "ab" / ("c" * 62)).write_text("x")
    assert scanned(work.path / ".git").unread == {"object_format_differs": 1}


def test_a_damaged_index_is_counted(work: Workplace) -> None:
    work.commit("x")
    for end in ("pack", "idx"):
        (work.path / ".git" / "objects" / "pack" / f"pack-ab.{end}").write_text("x")
    assert scanned(work.path / ".git").unread == {"pack_index_damaged": 1}


def test_objects_that_are_stored_but_not_listed_are_counted(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    work.commit("x")
    monkeypatch.setattr(history_stores, "list_objects", lambda *_, **__: history_reader.ObjectList())
    assert scanned(work.path / ".git").unread == {"objects_not_listed": 2}


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_an_object_folder_that_is_a_file_or_a_dangling_link_hides_no_other_object(
    work: Workplace, fresh_token: Token, kind: str
) -> None:
    token = fresh_token()
    work.write("a", token)
    work.commit("x")
    objects = work.path / ".git" / "objects"
    place = next(path for number in range(256) if not (path := objects / f"{number:02x}").exists())
    if kind == "file":
        place.write_text("x")
    else:
        place.symlink_to("/nonexistent")
    result = scanned(work.path / ".git")
    assert (digests(result), result.unread) == ({digest(token)}, {"object_folder_unreadable": 1})


def alternates(work: Workplace, *lines: str) -> None:
    info = work.path / ".git" / "objects" / "info"
    info.mkdir(exist_ok=True)
    (info / "alternates").write_text("\n".join(lines) + "\n")


def test_alternates_are_read_and_missing_ones_counted(work: Workplace, fresh_token: Token, tmp_path: Path) -> None:
    token = fresh_token()
    other = Workplace(tmp_path / "other", "nowhere")
    other.start()
    other.write("a", token)
    other.commit("x")
    work.commit("y")
    alternates(work, str(other.path / ".git" / "objects"), "../../../gone", "# a comment")
    alternates(other, str(work.path / ".git" / "objects"))  # the two repositories refer to each other
    found = scanned(work.path / ".git")
    assert digests(found) == {digest(token)}
    assert found.unread == {"alternate_missing": 1}


def test_alternates_of_another_owner_are_refused_and_counted(
    work: Workplace, fresh_token: Token, tmp_path: Path
) -> None:
    other = Workplace(tmp_path / "other", "nowhere")
    other.start()
    other.write("a", fresh_token())
    other.commit("x")
    work.commit("y")
    foreign = other.path / ".git" / "objects"
    if os.getuid() == 0:
        os.chown(foreign, 12345, 12345)
    else:
        foreign = Path("/usr")  # only root can change the owner of a folder, so use a folder that belongs to root
    alternates(work, str(foreign))
    found = scanned(work.path / ".git")
    assert found.candidates == []
    assert found.unread == {"alternate_refused": 1}


def test_refs_that_link_in_circles_hang_nothing_and_their_names_are_read(work: Workplace, fresh_token: Token) -> None:
    token = fresh_token()
    work.commit("x")
    work.git("branch", token)
    work.git("pack-refs", "--all")
    heads = work.path / ".git" / "refs" / "heads"
    for number in range(10):
        (heads / f"loop{number}").symlink_to(heads)
    assert digests(scanned(work.path / ".git")) == {digest(token)}


@pytest.mark.parametrize("size", ["-1", "99999999999", "18446744073709551616", "x"])
def test_a_loose_object_that_ends_git_hides_no_other_object(work: Workplace, fresh_token: Token, size: str) -> None:
    token = fresh_token()
    work.write("a", token)
    work.commit("x")
    for folder in ("00", "ff"):
        forged = work.path / ".git" / "objects" / folder / ("ab" * 19)
        forged.parent.mkdir(exist_ok=True)
        forged.write_bytes(zlib.compress(f"blob {size}\0x".encode()))
    found = scanned(work.path / ".git")
    assert digests(found) == {digest(token)}
    assert found.unread["object_damaged"] + found.unread["inflated_over_limit"] == 2


def test_loose_objects_that_inflate_to_far_more_than_their_size_are_counted(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, fresh_token: Token
) -> None:
    monkeypatch.setattr(history_stores, "MIN_LOOSE_INFLATED", 100_000)
    token = fresh_token()
    work.write("a", token)
    work.write("zeros", "\0" * 1_000_000)
    work.commit("x")
    found = scanned(work.path / ".git")
    assert digests(found) == {digest(token)}
    assert found.unread == {"inflated_over_limit": 1}


def test_named_pipes_in_a_repository_hang_nothing(work: Workplace, fresh_token: Token) -> None:
    token = fresh_token()
    work.write("a", token)
    work.commit("x")
    dot_git = work.path / ".git"
    (dot_git / "config").unlink()
    for place in ("config", "packed-refs", "commondir", "objects/pack/pack-1.idx", "objects/00/" + "1" * 38):
        (dot_git / place).parent.mkdir(exist_ok=True)
        os.mkfifo(dot_git / place)
    (dot_git / "objects" / "info").mkdir(exist_ok=True)
    os.mkfifo(dot_git / "objects" / "info" / "alternates")
    found = scanned(dot_git)
    assert digests(found) == {digest(token)}
    assert found.unread == {"special_file": 2, "refs_unreadable": 1}


def test_a_linked_work_tree_is_the_repository_that_it_belongs_to(work: Workplace, fresh_token: Token) -> None:
    token = fresh_token()
    work.write("a", token)
    work.commit("x")
    work.git("worktree", "add", "-q", "../linked")
    git_dir = git_repositories.git_dir_of(work.path.parent / "linked")
    assert git_dir is not None
    assert digests(scanned(git_dir)) == {digest(token)}


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_a_bundle_of_either_hash_and_without_branches_is_unpacked(
    tmp_path: Path, fresh_token: Token, form: str
) -> None:
    token = fresh_token()
    git("init", "-q", f"--object-format={form}", "--template=", tmp_path / "made")
    work = Workplace(tmp_path / "made", "nowhere")
    work.write("a", token)
    commit = work.commit("x")
    work.git("bundle", "create", "-q", str(tmp_path / "head.bundle"), "HEAD")
    with unbundled(tmp_path / "head.bundle") as git_dir:
        (found,) = scanned(git_dir).candidates
    assert (found.digest, found.place.path, found.place.commit) == (digest(token), "a", commit)


def test_a_thin_or_damaged_bundle_is_an_error(work: Workplace, tmp_path: Path) -> None:
    work.commit("x")
    work.write("a", "a")
    work.commit("y")
    work.git("bundle", "create", "-q", str(tmp_path / "thin.bundle"), "HEAD~1..HEAD")
    (tmp_path / "damaged.bundle").write_bytes((tmp_path / "thin.bundle").read_bytes()[:100])
    for name in ("thin.bundle", "damaged.bundle"):
        with pytest.raises(GitError), unbundled(tmp_path / name):
            pass


def test_a_repository_is_not_written_to(work: Workplace) -> None:
    work.write("a", "a")
    work.commit("x")

    def state() -> dict[str, tuple[int, int]]:
        paths = sorted(work.path.rglob("*"))
        return {str(path): (path.lstat().st_mtime_ns, stat.S_IMODE(path.lstat().st_mode)) for path in paths}

    before = state()
    scanned(work.path / ".git")
    assert state() == before

"""Tests that wrong values in the index of a git pack do not hide an object."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.detection import Detector, sha256_digest
from scanner.detection.history import object_stores
from scanner.detection.history.pack_history import families, readers, reading
from scanner.detection.history.scan import HistoryScan, scan_history
from tests.scanner.detection.history.pack_history.generated import history_of, objects_by_git, one_pack
from tests.scanner.detection.history.pack_history.written import FIRST, blob, empty_repository, oid_of, write_pack
from workers.sandbox.git_backend import git

Token = Callable[[], str]
HARMLESS = b"nothing to see\n"


@pytest.fixture(params=["git", "pack reader"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run each test with git and with r8scan's own reader of packs."""
    if request.param != "git":
        monkeypatch.setattr(readers, "MIN_PACK_BYTES", 0)
    return str(request.param)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return empty_repository(tmp_path / "r.git")


def has_found(history: HistoryScan, token: str) -> bool:
    return {candidate.digest for candidate in history.candidates} == {sha256_digest(token.encode())}


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("first", [True, False])
def test_an_id_that_another_pack_gives_to_a_harmless_object_hides_nothing(
    repository: Path, fresh_token: Token, first: bool
) -> None:
    token = fresh_token()
    leak = token.encode()
    names = ("aa", "bb") if first else ("bb", "aa")
    write_pack(repository, names[0], [blob(HARMLESS, oid=oid_of(leak)), blob(b"other")])
    write_pack(repository, names[1], [blob(leak)])
    for suffix in ("pack", "idx"):
        os.utime(repository / "objects" / "pack" / f"pack-{names[1]}.{suffix}", (1, 1))
    history = scan_history(repository, Detector())
    assert has_found(history, token)
    assert (history.objects, history.unread) == (3, {})


@pytest.mark.usefixtures("reader")
def test_an_id_that_a_pack_gives_to_a_harmless_object_hides_no_loose_object(
    repository: Path, fresh_token: Token
) -> None:
    token = fresh_token()
    git("hash-object", "-w", "--stdin", cwd=repository, content=token.encode())
    write_pack(repository, "aa", [blob(HARMLESS, oid=oid_of(token.encode()))])
    assert has_found(scan_history(repository, Detector()), token)


@pytest.mark.usefixtures("reader")
def test_a_loose_object_hides_no_object_of_an_alternate(tmp_path: Path, repository: Path, fresh_token: Token) -> None:
    token = fresh_token()
    other = empty_repository(tmp_path / "other.git")
    for folder, content in ((repository, HARMLESS), (other, token.encode())):
        oid = git("hash-object", "-w", "--stdin", cwd=folder, content=content).decode().strip()
        path = folder / "objects" / oid[:2] / oid[2:]
        wanted = oid_of(token.encode()).hex()
        (folder / "objects" / wanted[:2]).mkdir(exist_ok=True)
        path.rename(folder / "objects" / wanted[:2] / wanted[2:])
    (repository / "objects" / "info").mkdir(exist_ok=True)
    (repository / "objects" / "info" / "alternates").write_text(f"{other}/objects\n")
    assert has_found(scan_history(repository, Detector()), token)


@pytest.mark.usefixtures("reader")
def test_an_id_that_occurs_twice_in_one_index_hides_nothing(repository: Path, fresh_token: Token) -> None:
    token = fresh_token()
    leak = token.encode()
    write_pack(repository, "aa", [blob(HARMLESS, oid=oid_of(leak)), blob(leak), blob(b"more", oid=oid_of(leak))])
    history = scan_history(repository, Detector())
    assert has_found(history, token)
    assert (history.objects, history.unread) == (3, {})


@pytest.mark.usefixtures("reader")
def test_an_index_that_lists_one_entry_twice_and_another_never_is_reported(
    repository: Path, fresh_token: Token
) -> None:
    token = fresh_token()
    entries = [blob(HARMLESS), blob(token.encode())]
    write_pack(repository, "aa", entries, offsets=[FIRST, FIRST])
    assert scan_history(repository, Detector()).unread["pack_index_damaged"] == 1


def test_an_entry_that_the_index_does_not_list_is_reported(
    repository: Path, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MIN_PACK_BYTES", 0)
    entries = [blob(HARMLESS), blob(fresh_token().encode())]
    write_pack(repository, "aa", entries, offsets=[FIRST])
    write_pack(repository, "bb", entries, offsets=[FIRST + len(entries[0].raw)], count=1)
    assert scan_history(repository, Detector()).unread["pack_index_damaged"] == 2


def test_objects_that_git_cannot_look_up_by_their_id_are_not_left_to_git(
    repository: Path, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    oid = oid_of(fresh_token().encode())
    for module in (families, reading):
        monkeypatch.setattr(module, "MAX_OBJECT_BYTES", 700)
    write_pack(repository, "aa", [blob(HARMLESS, oid=oid), blob(b"x" * 33 * (1 << 20), oid=oid), blob(b"end", oid=oid)])
    history = scan_history(repository, Detector())
    assert (history.objects, history.unread) == (2, {"object_damaged": 1})


@pytest.mark.usefixtures("reader")
def test_an_index_of_another_pack_is_reported_and_the_rest_is_read(repository: Path, fresh_token: Token) -> None:
    token = fresh_token()
    one = write_pack(repository, "aa", [blob(HARMLESS)])
    two = write_pack(repository, "bb", [blob(b"other")])
    shutil.copy(two.with_suffix(".idx"), one.with_suffix(".idx"))
    write_pack(repository, "cc", [blob(token.encode())])
    history = scan_history(repository, Detector())
    assert has_found(history, token)
    assert history.unread == {"objects_not_listed": 1, "places_not_found": 1}


@pytest.mark.usefixtures("reader")
def test_a_token_in_an_object_with_a_wrong_id_is_found_and_the_object_counts_as_damaged(
    repository: Path, fresh_token: Token
) -> None:
    token = fresh_token()
    write_pack(repository, "aa", [blob(token.encode(), oid=oid_of(HARMLESS)), blob(b"other")])
    history = scan_history(repository, Detector())
    assert has_found(history, token)
    assert history.unread == {"object_damaged": 1}
    assert [part.git_object for part in history.parts] == [oid_of(HARMLESS).hex()]


@pytest.mark.usefixtures("reader")
def test_copies_of_an_object_are_reported_once(repository: Path, fresh_token: Token) -> None:
    token = fresh_token()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5\n"
    for name in ("aa", "bb"):
        write_pack(repository, name, [blob(token.encode()), blob(pointer), blob(name.encode())])
    history = scan_history(repository, Detector())
    assert len(history.candidates) == 1
    assert len(history.parts) == 1
    assert (history.objects, history.unread) == (6, {"lfs_pointer": 1})


@pytest.mark.usefixtures("reader")
def test_a_forged_multi_pack_index_hides_no_pack(tmp_path: Path, repository: Path, fresh_token: Token) -> None:
    token = fresh_token()
    write_pack(repository, "aa", [blob(HARMLESS)])
    write_pack(repository, "bb", [blob(b"other")])
    git("multi-pack-index", "write", cwd=repository)
    # Replace a pack. The multi-pack-index then still lists the objects of the old pack.
    write_pack(repository, "bb", [blob(token.encode())])
    assert has_found(scan_history(repository, Detector()), token)
    write_pack(repository, "bb", [blob(b"other")])
    write_pack(repository, "cc", [blob(token.encode())])
    assert has_found(scan_history(repository, Detector()), token)


@pytest.mark.usefixtures("reader")
def test_a_forged_reverse_index_hides_no_object(tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    repository = history_of(tmp_path / "r.git", commits=10, secret=token)
    pack, everything = one_pack(repository), objects_by_git(repository)
    git("index-pack", "--rev-index", str(pack), cwd=repository)
    reverse = pack.with_suffix(".rev")
    content = bytearray(reverse.read_bytes())
    content[FIRST : FIRST + 4 * len(everything)] = bytes(4 * len(everything))
    reverse.chmod(0o600)
    reverse.write_bytes(content)
    listed = git("cat-file", "--batch-all-objects", "--unordered", "--batch-check", cwd=repository)
    assert listed.count(b"\n") < len(everything), "git trusts the forged reverse index"
    history = scan_history(repository, Detector())
    assert has_found(history, token)
    assert history.objects == len(everything)


@pytest.mark.usefixtures("reader")
def test_files_beside_a_pack_change_nothing(tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    repository = history_of(tmp_path / "r.git", commits=10, secret=token)
    everything = objects_by_git(repository)
    git("repack", "-adbq", cwd=repository)
    pack = one_pack(repository)
    assert pack.with_suffix(".bitmap").is_file()
    for suffix in (".bitmap", ".mtimes", ".keep", ".promisor"):
        pack.with_suffix(suffix).unlink(missing_ok=True)
        pack.with_suffix(suffix).write_bytes(b"forged")
    history = scan_history(repository, Detector())
    assert has_found(history, token)
    assert (history.objects, history.unread) == (len(everything), {"partial_clone": 1})


def test_many_small_packs_are_read_by_the_pack_reader(
    repository: Path, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = fresh_token()
    for number in range(readers.MAX_GIT_PACKS + 1):
        write_pack(repository, f"{number:02}", [blob(b"%d" % number), blob(token.encode())])
    calls: list[int] = []

    def read(packs: list[object], *arguments: object, **named: object) -> None:
        calls.append(len(packs))

    monkeypatch.setattr("scanner.detection.history.history_stores.read_packs", read)
    assert has_found(scan_history(repository, Detector()), token)
    assert calls == [readers.MAX_GIT_PACKS + 1]


def test_an_index_counts_as_plain_only_if_it_lists_each_id_and_each_offset_once(repository: Path) -> None:
    def is_plain(*oids: bytes, offsets: list[int]) -> bool:
        entries = [blob(b"%d" % number, oid=oid) for number, oid in enumerate(oids)]
        pack = write_pack(repository, "aa", entries, offsets=offsets)
        return object_stores.has_plain_index(object_stores.Store(pack, 20, 1))

    one, two = b"1" * 20, b"2" * 20
    assert is_plain(one, two, offsets=[FIRST, 40])
    assert is_plain(two, one, offsets=[40, FIRST])
    assert not is_plain(one, one, offsets=[FIRST, 40])
    assert not is_plain(one, two, offsets=[FIRST, FIRST])
    assert not is_plain(one, two, offsets=[FIRST + 1, 40])
    assert not is_plain(one, two, offsets=[FIRST, 1 << 31])
    assert not object_stores.has_plain_index(object_stores.Store(repository / "none.pack", 20, 1))

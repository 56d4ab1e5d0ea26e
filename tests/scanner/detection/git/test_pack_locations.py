"""Tests for finding the paths and commits of objects in a git pack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scanner.detection.git import pack_locations
from scanner.detection.git.pack_codec import ObjectType, object_id
from scanner.detection.git.pack_locations import MAX_PATH, locate
from scanner.detection.git.packs import PackObject

BLOB = object_id("blob", b"leak")


def made(kind: ObjectType, content: bytes) -> PackObject:
    return PackObject(kind, object_id(kind, content), content)


def tree(*entries: tuple[bytes, bytes, str]) -> PackObject:
    return made("tree", b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries))


def commit(root: PackObject, *parents: PackObject, message: str = "m") -> PackObject:
    lines = [f"tree {root.oid}", *(f"parent {parent.oid}" for parent in parents)]
    return made("commit", "\n".join([*lines, "committer A <a@b> 1700000000 +0000", "", message]).encode())


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that collects the content of each parsed git tree."""
    seen: list[bytes] = []
    real = pack_locations.tree_entries

    def counted(content: bytes, hash_size: int = 20) -> Iterator[tuple[bytes, str, str]]:
        seen.append(content)
        return real(content, hash_size)

    monkeypatch.setattr(pack_locations, "tree_entries", counted)
    return seen


def test_a_blob_with_a_hundred_million_paths_is_found_by_reading_nine_trees(parsed: list[bytes]) -> None:
    trees = [tree(*((b"100644", b"f%d" % number, BLOB) for number in range(10)))]
    for _ in range(8):
        trees.append(tree(*((b"40000", b"d%d" % number, trees[-1].oid) for number in range(10))))
    found = locate([*trees, commit(trees[-1])], [BLOB, "0" * 40])
    assert found[BLOB].path.count("/") == 8
    assert len(parsed) == 9


def test_a_tree_of_a_thousand_commits_is_read_once(parsed: list[bytes]) -> None:
    root = tree((b"100644", b"a.py", BLOB))
    commits = [commit(root)]
    for number in range(1000):
        commits.append(commit(root, commits[-1], message=str(number)))
    found = locate([root, *reversed(commits)], [BLOB, "0" * 40])
    assert (found[BLOB].path, found[BLOB].commit) == ("a.py", commits[0].oid)
    assert len(parsed) == 1


def test_deeply_nested_folders_need_no_recursion_and_no_endless_path() -> None:
    trees = [tree((b"100644", b"leak", BLOB))]
    for number in range(3000):
        trees.append(tree((b"40000", b"n" * (number % 50 + 1), trees[-1].oid)))
    found = locate([*trees, commit(trees[-1])], [BLOB])
    assert found[BLOB].path.endswith("/n/leak")
    assert len(found[BLOB].path) <= MAX_PATH + 2


def test_the_number_of_tree_entries_read_in_one_pack_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_locations, "MAX_ENTRIES", 100)
    wide = tree(*((b"100644", b"f%d" % number, f"{number:040x}") for number in range(1000)))
    found = locate([wide, commit(wide)], [f"{5:040x}", f"{500:040x}"])
    assert list(found) == [f"{5:040x}"]


def test_a_tree_that_claims_to_contain_itself_is_read_once(parsed: list[bytes]) -> None:
    forged = PackObject("tree", "1" * 40, b"40000 me\0" + bytes.fromhex("1" * 40))
    head = commit(forged)
    assert locate([forged, head], [BLOB]) == {}
    assert len(parsed) == 1

"""Tests that r8scan's own reader of git packs returns the same objects as git, and each object once."""

from __future__ import annotations

import shutil
import zlib
from itertools import accumulate
from pathlib import Path

import pytest

from scanner.detection.history.pack_history import families, index, reading
from scanner.detection.history.pack_history.index import UnusualPack, open_pack
from tests.scanner.detection.git.test_packs import delta, header, offset
from tests.scanner.detection.history.pack_history.generated import (
    bushy,
    history_of,
    objects_by_git,
    objects_read,
    one_pack,
    patched,
    plan_of,
)
from tests.scanner.detection.history.pack_history.written import FIRST, Entry, blob, empty_repository, index_of, oid_of
from workers.sandbox.git_backend import git


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return history_of(tmp_path_factory.mktemp("history") / "source.git")


@pytest.fixture
def repository(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "repository.git"))


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_every_object_of_a_packed_repository_is_read(tmp_path: Path, hash_name: str) -> None:
    repository = history_of(tmp_path / "r.git", hash_name=hash_name)
    found, for_git = objects_read(repository / "objects")
    assert len(found) > 100
    assert found == objects_by_git(repository)
    assert not for_git


def test_deltas_that_name_their_base_are_read(repository: Path, tmp_path: Path) -> None:
    ids = "\n".join(objects_by_git(repository)).encode()
    (tmp_path / "named").mkdir()
    git("pack-objects", "--no-reuse-delta", "-q", str(tmp_path / "named" / "pack"), cwd=repository, content=ids)
    pack = one_pack(repository)
    kinds = git("verify-pack", "-v", str(pack), cwd=repository)
    assert kinds.count(b"chain length") > 1
    for file in pack.parent.iterdir():
        file.unlink()
    for file in (tmp_path / "named").iterdir():
        shutil.move(file, pack.parent)
    assert objects_read(repository / "objects") == (objects_by_git(repository), set())


def test_an_object_in_several_packs_is_read_from_each_pack(repository: Path) -> None:
    ids = list(objects_by_git(repository))
    for first in (0, 30, 60):
        some = "\n".join(ids[first : first + 50]).encode()
        git("pack-objects", "-q", "objects/pack/pack", cwd=repository, content=some)
    git("pack-objects", "-q", "objects/pack/pack", cwd=repository, content=b"")
    assert len(list((repository / "objects" / "pack").glob("*.pack"))) == 5
    assert objects_read(repository / "objects") == (objects_by_git(repository), set())


def test_packs_of_alternates_are_read(repository: Path, source: Path) -> None:
    assert objects_read(repository / "objects", source / "objects") == (objects_by_git(repository), set())


def test_offsets_of_64_bits_are_read(repository: Path) -> None:
    pack, everything = one_pack(repository), objects_by_git(repository)
    git("index-pack", "--index-version=2,0", "-o", str(pack.with_suffix(".idx2")), str(pack), cwd=repository)
    shutil.move(pack.with_suffix(".idx2"), pack.with_suffix(".idx"))
    assert objects_read(repository / "objects") == (everything, set())


def test_bases_beyond_the_memory_budget_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = bushy(tmp_path / "r.git")
    monkeypatch.setattr(reading, "BASES_BYTES", 500)
    assert objects_read(repository / "objects") == (objects_by_git(repository), set())


def test_the_budget_counts_only_objects_that_are_stored_as_deltas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = bushy(tmp_path / "r.git")
    everything = objects_by_git(repository)
    whole = sum(
        len(plan.rest) == 0 and int((plan.entries.kinds < 5).sum()) for plan in plan_of(repository / "objects").packs
    )
    found, over = objects_read(repository / "objects", budget=0)
    assert len(found) == whole
    assert found.keys() | over == everything.keys()
    some, over = objects_read(repository / "objects", budget=5_000)
    assert len(found) < len(some) < len(everything)
    assert some.keys() | over == everything.keys()
    assert not some.keys() & over
    monkeypatch.setattr(reading, "BASES_BYTES", 500)
    fewer, _ = objects_read(repository / "objects", budget=5_000)
    assert len(fewer) < len(some), "an object that is made twice is charged twice"


def test_objects_over_the_limit_and_their_deltas_are_left_to_git(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (families, reading):
        monkeypatch.setattr(module, "MAX_OBJECT_BYTES", 700)
    found, for_git = objects_read(repository / "objects")
    everything = objects_by_git(repository)
    assert for_git
    assert found.keys() | for_git == everything.keys()
    assert not found.keys() & for_git
    assert all(everything[oid] == content for oid, content in found.items())


def test_parsing_an_index_in_slices_gives_the_same_objects(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SLICE", 7)
    assert objects_read(repository / "objects") == (objects_by_git(repository), set())


def test_units_contain_every_family_of_deltas_and_the_heaviest_come_first(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "MIN_UNIT_BYTES", 1)
    plan = plan_of(repository / "objects")
    weights = [unit.weight for unit in plan.units]
    assert len(weights) > 4
    assert weights == sorted(weights, reverse=True)
    assert objects_read(repository / "objects") == (objects_by_git(repository), set())


@pytest.mark.parametrize("damage", [*range(0, 4000, 97), 1779])
def test_a_damaged_byte_leaves_objects_to_git_and_changes_none(repository: Path, damage: int) -> None:
    everything = objects_by_git(repository)
    pack = one_pack(repository)
    at = 12 + damage % (pack.stat().st_size - 40)
    patched(pack, at, bytes([pack.read_bytes()[at] ^ 0x5A]))
    found, for_git = objects_read(repository / "objects")
    assert found.keys() | for_git == everything.keys()
    changed = {oid for oid, content in found.items() if everything[oid] != content}
    # A damaged distance from a delta to its base can change an object without being noticed. git must then return the
    # same changed object.
    by_git = objects_by_git(repository) if changed else {}
    assert {oid: by_git.get(oid) for oid in changed} == {oid: found[oid] for oid in changed}


def test_an_index_that_does_not_fit_its_pack_is_refused_as_unusual(repository: Path) -> None:
    pack = one_pack(repository)
    whole = pack.with_suffix(".idx").read_bytes()
    last_count = 8 + 255 * 4
    for at, content in (
        (4, b"\0\0\0\3"),  # the version of the pack format is 3 instead of 2
        (last_count, b"\xff\xff\xff\xff"),
        (last_count, b"\0\0\0\1"),
        (8, b"\x7f\xff\xff\xff"),
        (len(whole) - 30, b"another checksum"),
    ):
        patched(pack.with_suffix(".idx"), 0, whole)
        patched(pack.with_suffix(".idx"), at, content)
        with pytest.raises(UnusualPack):
            open_pack(pack, pack.with_suffix(".idx"))
    patched(pack.with_suffix(".idx"), 0, whole)
    patched(pack, 0, b"KCAP")
    with pytest.raises(UnusualPack):
        open_pack(pack, pack.with_suffix(".idx"))


def test_a_pack_of_more_than_4_gb_is_read_through_its_64_bit_offsets(tmp_path: Path) -> None:
    repository = empty_repository(tmp_path / "r.git")
    base, far = blob(b"base" * 30), (5 << 30) + 1
    change = delta(b"base" * 30, b"base" * 30 + b"changed")
    entries = [
        blob(b"small"),
        Entry(
            oid_of(b"base" * 30 + b"changed"),
            header(6, len(change)) + offset(far + len(blob(b"small").raw)) + zlib.compress(change),
        ),
        blob(b"last"),
    ]
    places = [FIRST, *accumulate((len(entry.raw) for entry in entries), initial=FIRST + far)]
    pack = repository / "objects" / "pack" / "pack-aa.pack"
    head = b"PACK" + (2).to_bytes(4) + (4).to_bytes(4) + base.raw
    # Put a hole (a range that needs no space on the disk) between the first entry and the others.
    with pack.open("wb") as file:
        file.write(head)
        file.seek(places[1])
        file.write(b"".join(entry.raw for entry in entries) + bytes(20))
    rows = sorted((entry.oid, at) for entry, at in zip([base, *entries], places, strict=False))
    pack.with_suffix(".idx").write_bytes(index_of(rows, bytes(20)))
    (plan,) = plan_of(repository / "objects").packs
    assert plan.entries.offsets.dtype == "uint64"
    found, for_git = objects_read(repository / "objects", gaps=1)
    assert found == objects_by_git(repository)
    assert (len(found), for_git) == (4, set())

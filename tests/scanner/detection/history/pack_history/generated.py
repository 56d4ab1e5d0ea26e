"""Builds small git repositories with packs of every kind, and lists the objects in them."""

from __future__ import annotations

import hashlib
import random
import zlib
from pathlib import Path

from scanner.detection.history.pack_history.families import HistoryPlan, plan_history
from scanner.detection.history.pack_history.index import open_pack
from scanner.detection.history.pack_history.reading import FamilyReader
from tests.scanner.detection.git.test_packs import delta, header, offset, pack_of, plain
from workers.sandbox.git_backend import git

FILES = 6


def history_of(path: Path, *, commits: int = 40, hash_name: str = "sha1", secret: str = "") -> Path:
    """Create a bare repository whose files change often, so that git stores most versions as deltas.

    Args:
        path: The git directory to create.
        commits: The number of commits.
        hash_name: sha1 or sha256.
        secret: A text that only one version of one file contains.
    """
    git("init", "--quiet", "--bare", f"--object-format={hash_name}", "--template=", path)
    chance = random.Random(commits)
    lines = [[b"%d %d\n" % (name, chance.randrange(10**9)) for _ in range(40)] for name in range(FILES)]
    stream = bytearray()
    for number in range(commits):
        name = chance.randrange(FILES)
        text = lines[name]
        text.insert(chance.randrange(len(text)), b"changed in %d %d\n" % (number, chance.randrange(10**9)))
        content = b"".join(text) + (secret.encode() if number == commits // 2 else b"")
        stream += b"commit refs/heads/main\ncommitter A <a@example.com> %d +0000\ndata 2\nc\n" % (10**9 + number)
        stream += b"M 644 inline d/f%d\ndata %d\n%s\n" % (name, len(content), content)
    git("fast-import", "--quiet", cwd=path, content=bytes(stream))
    git("repack", "-adfq", "--depth=50", cwd=path)
    return path


def bushy(path: Path) -> Path:
    """Create a repository whose deltas form a tree of three levels. Each base has four deltas."""
    git("init", "--quiet", "--bare", "--template=", path)
    contents = [b"root" * 50]
    entries = [plain("blob", contents[0])]
    parents = [0]
    for _ in range(3):
        made: list[int] = []
        for parent in parents:
            for number in range(4):
                content = contents[parent] + b"%d" % number * 40
                change = delta(contents[parent], content)
                distance = offset(sum(map(len, entries[parent:])))
                entries.append(header(6, len(change)) + distance + zlib.compress(change))
                made.append(len(contents))
                contents.append(content)
        parents = made
    git("index-pack", "--stdin", cwd=path, content=pack_of(entries))
    return path


def objects_by_git(git_dir: Path) -> dict[str, str]:
    """Return each object's type and the SHA-256 of its content by its id, as git reads them."""
    answer = git("cat-file", "--batch-all-objects", "--batch", cwd=git_dir)
    found: dict[str, str] = {}
    at = 0
    while at < len(answer):
        end = answer.index(b"\n", at)
        oid, kind, size = answer[at:end].decode().split(" ")
        content = answer[end + 1 : end + 1 + int(size)]
        found[oid] = f"{kind} {hashlib.sha256(content).hexdigest()}"
        at = end + int(size) + 2
    return found


def packs_of(*folders: Path) -> list[Path]:
    """Return the paths of the git packs in these `objects` folders."""
    return [pack for folder in folders for pack in sorted((folder / "pack").glob("*.pack"))]


def plan_of(*folders: Path) -> HistoryPlan:
    """Return the plan for reading the git packs in these `objects` folders."""
    return plan_history([open_pack(pack, pack.with_suffix(".idx")) for pack in packs_of(*folders)])


def objects_read(*folders: Path, budget: int = 1 << 40, gaps: int = 0) -> tuple[dict[str, str], set[str]]:
    """Read the git packs in these folders without git, and check that no object is read twice.

    Args:
        folders: `objects` folders of a repository.
        budget: The limit on the number of bytes that deltas may produce.
        gaps: The expected number of entries in a pack that are missing in its index.

    Returns:
        The type and the SHA-256 of each object by its id, and the ids of the objects that only git can read.
    """
    plan = plan_of(*folders)
    found: dict[str, str] = {}
    for_git = {pack.oid(number).hex() for pack in plan.packs for number in pack.rest.tolist()}
    names = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
    made: set[tuple[int, int]] = set()
    left = 0
    for unit in plan.units:
        reader = FamilyReader(unit, budget)
        for number, kind, content in reader.objects():
            entry = id(unit.plan), number
            assert entry not in made
            made.add(entry)
            text = f"{names[kind]} {hashlib.sha256(content).hexdigest()}"
            assert found.setdefault(unit.plan.oid(number).hex(), text) == text
        assert reader.gaps == gaps
        given_up = [number for entries in (reader.for_git, reader.over_budget) for number, _ in entries]
        left += len(given_up)
        for_git |= {unit.plan.oid(number).hex() for number in given_up}
    assert plan.objects == len(made) + left
    return found, for_git


def one_pack(git_dir: Path) -> Path:
    (pack,) = (git_dir / "objects" / "pack").glob("*.pack")
    return pack


def patched(path: Path, at: int, content: bytes) -> None:
    """Write `content` at the offset `at` into a read-only file."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)

"""Checks that r8scan and git read the same objects from a repository's packs.

Run: python -m tests.benchmarks.check_history REPOSITORY... [--sample 50]
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from scanner.detection.git.pack_codec import OBJECT_TYPES, object_id
from scanner.detection.history.git_processes import Deadline, started
from scanner.detection.history.git_repositories import opened
from scanner.detection.history.history_reader import list_objects
from scanner.detection.history.pack_history.families import plan_history
from scanner.detection.history.pack_history.index import open_pack
from scanner.detection.history.pack_history.reading import FamilyReader
from tests.benchmarks.bench_history import git_dir


def made(packs: list[Path], left_to_git: set[str]) -> Iterator[tuple[str, str, bytes]]:
    """Yield the id, type and content of each object that r8scan reads from the packs.

    `left_to_git` receives the ids of the objects that r8scan leaves to git.
    """
    plan = plan_history([open_pack(pack, pack.with_suffix(".idx")) for pack in packs])
    for pack in plan.packs:
        left_to_git |= {pack.oid(number).hex() for number in pack.rest.tolist()}
    for unit in plan.units:
        reader = FamilyReader(unit, budget=1 << 60)
        for number, kind, content in reader.objects():
            yield unit.plan.oid(number).hex(), OBJECT_TYPES[kind], content
        left_to_git |= {unit.plan.oid(number).hex() for number, _ in reader.for_git}
        if reader.gaps:
            raise AssertionError("the index lists less than the pack has")


def contents(git_folder: Path, oids: list[str]) -> Iterator[bytes]:
    """Yield the content of each of these objects, as git reads it."""
    with started(git_folder, ["cat-file", "--batch"]) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        output = open(child.stdout.fileno(), "rb", closefd=False)  # noqa: SIM115 - the pipe is closed with the child
        for oid in oids:
            child.stdin.write(f"{oid}\n".encode())
            size = int(output.readline().split()[2])
            yield output.read(size + 1)[:-1]


def check(repository: Path, sample: int) -> bool:
    """Compare r8scan's reader with git on one repository. Print the result, and return whether they agree.

    The whole content is compared only for one in `sample` objects.
    """
    begin = time.monotonic()
    with opened(git_dir(repository)) as shown:
        listed = list_objects(shown.git_dir, Deadline())
        by_git = {listed.oid(at): (listed.type(at), listed.sizes[at]) for at in range(len(listed))}
        packs = [store.path for store in shown.stores if store.is_pack]
        left: set[str] = set()
        ours: dict[str, tuple[str, int]] = {}
        samples: dict[str, str] = {}
        wrong: set[str] = set()
        chance = random.Random(1)
        for oid, name, content in made(packs, left):
            ours[oid] = name, len(content)
            if object_id(name, content, "sha1" if len(oid) == 40 else "sha256") != oid:
                wrong.add(oid)
            if not chance.randrange(sample):
                samples[oid] = hashlib.sha256(content).hexdigest()
        loose = by_git.keys() - ours.keys() - left
        wrong |= {oid for oid, what in ours.items() if by_git.get(oid) != what}
        theirs = contents(shown.git_dir, list(samples))
        wrong |= {
            oid
            for (oid, digest), content in zip(samples.items(), theirs, strict=True)
            if hashlib.sha256(content).hexdigest() != digest
        }
        is_equal = not wrong and (not loose or bool(shown.stores[len(packs) :]))
    print(
        f"{repository.parent.name}: {len(by_git):,} objects by git; {len(ours):,} made here, with the same types, sizes"
        f" and hashes except {len(wrong)}; {len(left)} left to git; {len(loose)} loose; {len(samples):,} compared byte"
        f" by byte; {time.monotonic() - begin:.0f} s"
    )
    return is_equal


def main() -> None:
    """Check each repository on the command line. Exit with status 1 if r8scan and git differ for one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("repositories", nargs="+", type=Path)
    parser.add_argument("--sample", type=int, default=50, help="compare one of this many objects byte by byte")
    options = parser.parse_args()
    results = [check(repository.absolute(), options.sample) for repository in options.repositories]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()

"""Functions that put a content into a git repository, pack, bundle or loose object."""

from __future__ import annotations

import subprocess
import tempfile
import zlib
from pathlib import Path


def git_repository(folder: Path, content: bytes) -> None:
    """Create a git repository with two versions of a file, one stored as a delta of the other."""

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "-q")
    lines = b"".join(b"line %d of a file that is long enough for a delta\n" % number for number in range(200))
    for body in (lines, lines + content + b"\n"):
        (folder / "settings.txt").write_bytes(body)
        git("add", ".")
        git("commit", "-q", "-m", "change")
    git("repack", "-adq")


def git_pack(content: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        git_repository(Path(folder), content)
        return next(Path(folder).glob(".git/objects/pack/*.pack")).read_bytes()


def git_bundle(content: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        git_repository(Path(folder), content)
        subprocess.run(
            ["git", "bundle", "create", "-q", "all.bundle", "--all"], cwd=folder, check=True, capture_output=True
        )
        return Path(folder, "all.bundle").read_bytes()


def loose_object(content: bytes) -> bytes:
    return zlib.compress(b"blob %d\0" % len(content) + content)

"""Creates the git repository that a hostile input describes."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from scanner.git_children import environment
from tests.hostile.inputs.git import COMMIT, TREE, pack_of, plain_entry


def make_repository(folder: Path, content: bytes, neighbour: bytes) -> None:
    """Create a bare repository from a hostile input, and add an ordinary file with the token `neighbour`.

    `content` is input for `git fast-import`, "bomb WIDTH DEPTH" for nested trees, or "damaged NUMBER" for a bad tree.
    """
    _git(folder, "init", "--quiet", "--bare", "--template=", str(folder))
    if content.startswith(b"bomb "):
        width, depth = map(int, content.split()[1:])
        head = _trees(folder, width, depth, neighbour)
        _git(folder, "update-ref", "refs/heads/main", head)
        return
    if content.startswith(b"damaged "):
        head = _trees(folder, 1, 1, neighbour, innermost=b"00000 " * int(content.split()[1]))
        _git(folder, "update-ref", "refs/heads/main", head)
        return
    person = b"author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n"
    body = b"key = '" + neighbour + b"'\n"
    beside = b"commit refs/heads/beside\n" + person + b"data 1\nx\n"
    beside += b"M 100644 inline config.py\ndata %d\n" % len(body) + body + b"\n"
    _git(folder, "fast-import", "--quiet", data=content + beside)


def _trees(folder: Path, width: int, depth: int, neighbour: bytes, innermost: bytes = b"") -> str:
    """Write nested git trees and a file with the token `neighbour` in one commit. Return the commit's id."""
    entries: list[bytes] = []

    def add(kind: int, word: bytes, content: bytes) -> bytes:
        entries.append(plain_entry(content, kind))
        return hashlib.sha1(b"%s %d\0" % (word, len(content)) + content).digest()

    blob = add(3, b"blob", b"nothing\n")
    tree = add(TREE, b"tree", innermost or b"".join(b"100644 f%d\0" % number + blob for number in range(width)))
    for _ in range(depth):
        tree = add(TREE, b"tree", b"".join(b"40000 d%d\0" % number + tree for number in range(width)))
    leak = add(3, b"blob", b"key = '" + neighbour + b"'\n")
    top = add(TREE, b"tree", b"100644 config.py\0" + leak + b"40000 d\0" + tree)
    text = b"tree " + top.hex().encode() + b"\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
    commit = add(COMMIT, b"commit", text)
    _git(folder, "unpack-objects", "-q", data=pack_of(entries))
    return commit.hex()


def _git(folder: Path, *arguments: str, data: bytes | None = None) -> None:
    place = () if arguments[0] == "init" else (f"--git-dir={folder}",)
    command = ["git", *place, *arguments]
    subprocess.run(command, input=data, capture_output=True, check=True, env=environment())

"""Collects source code on this machine as input for the benchmarks."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".bench"

_ROOTS = (
    sysconfig.get_paths()["purelib"],
    sysconfig.get_paths()["stdlib"],
    "/usr/lib/python3",
    "/usr/lib/python3.11",
    "/usr/include",
    "/usr/share",
    "/usr/lib",
    "/usr/src",
)
_SOURCE_SUFFIXES = frozenset(
    (
        ".py",
        ".pyi",
        ".c",
        ".h",
        ".hpp",
        ".cc",
        ".cpp",
        ".hh",
        ".js",
        ".ts",
        ".mjs",
        ".cjs",
        ".css",
        ".html",
        ".htm",
        ".md",
        ".rst",
        ".txt",
        ".json",
        ".yaml",
        ".yml",
        ".toml",
        ".cfg",
        ".ini",
        ".sh",
        ".pl",
        ".pm",
        ".rb",
        ".go",
        ".rs",
        ".java",
        ".lua",
        ".tcl",
        ".el",
        ".sql",
        ".xml",
        ".m4",
        ".cmake",
        ".po",
        ".awk",
        ".vim",
        ".tmpl",
        ".conf",
        ".rules",
        ".inc",
        ".tex",
        ".svg",
    )
)
_MAX_FILE_BYTES = 4 << 20


def source_files() -> Iterator[Path]:
    """Yield the path of each source file on this machine, always in the same order."""
    seen: set[tuple[int, int]] = set()
    for root in _ROOTS:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix.lower() not in _SOURCE_SUFFIXES or path.is_symlink():
                    continue
                status = path.stat()
                identity = (status.st_dev, status.st_ino)
                if identity not in seen and 0 < status.st_size <= _MAX_FILE_BYTES:
                    seen.add(identity)
                    yield path


def source_corpus(size: int) -> Path:
    """Return the path of a file with `size` bytes of real source code."""
    target = CACHE / f"source-{size >> 20}m.bin"
    if target.exists() and target.stat().st_size == size:
        return target
    CACHE.mkdir(exist_ok=True)
    partial = target.with_suffix(".partial")
    written = 0
    with partial.open("wb") as corpus:
        while written < size:
            before = written
            for path in source_files():
                content = path.read_bytes()[: size - written]
                written += corpus.write(content)
                if written >= size:
                    break
            if written == before:
                raise RuntimeError("no source files found on this machine: nothing to measure with")
    partial.rename(target)
    return target


def small_documents(count: int, largest: int = 16 << 10) -> list[bytes]:
    """Return `count` source files of at most `largest` bytes each. Files repeat if the machine has too few."""
    documents: list[bytes] = []
    for path in source_files():
        if len(documents) >= count:
            break
        if path.stat().st_size <= largest:
            documents.append(path.read_bytes())
    if not documents:
        raise RuntimeError("no source files found on this machine: nothing to measure with")
    while len(documents) < count:
        documents += documents[: count - len(documents)]
    return documents

"""The time and memory for reading a git pack of ten million objects.

Run: python -m tests.benchmarks.bench_many_objects [--objects 10_000_000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

from tests.benchmarks.bench_history import OURS, timed
from tests.scanner.detection.git.test_packs import header, offset, plain, varint
from tests.scanner.detection.history.pack_history.written import FIRST, empty_repository

CONTENT = b"a line of text\n"


def generate(repository: Path, pairs: int) -> None:
    """Write a git pack that contains a blob and a delta of it, `pairs` times."""
    change = varint(len(CONTENT)) * 2 + bytes([0x90, len(CONTENT)])
    base = plain("blob", CONTENT)
    delta = header(6, len(change)) + offset(len(base)) + zlib.compress(change)
    pack = repository / "objects" / "pack" / "pack-aa.pack"
    with pack.open("wb") as file:
        file.write(b"PACK" + (2).to_bytes(4) + (2 * pairs).to_bytes(4))
        for first in range(0, pairs, 100_000):
            file.write((base + delta) * min(100_000, pairs - first))
        file.write(bytes(20))
    numbers = np.arange(1, 2 * pairs + 1, dtype=np.uint64)
    firsts = (numbers * ((1 << 32) // (2 * pairs + 2))).astype(">u4")
    ids = np.zeros((2 * pairs, 20), np.uint8)
    ids[:, :4] = firsts.view(np.uint8).reshape(-1, 4)
    ids[:, 16:] = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)
    starts = FIRST + np.arange(pairs, dtype=np.uint64) * (len(base) + len(delta))
    offsets = np.stack([starts, starts + len(base)], axis=1).reshape(-1).astype(">u4")
    np.random.default_rng(1).shuffle(offsets)
    fanout = np.cumsum(np.bincount(ids[:, 0], minlength=256)).astype(">u4")
    with pack.with_suffix(".idx").open("wb") as file:
        file.write(b"\xfftOc" + (2).to_bytes(4) + fanout.tobytes())
        for table in (ids, np.zeros(2 * pairs, np.uint32), offsets):
            file.write(table.tobytes())
        file.write(bytes(40))


def main() -> None:
    """Read the pack with one process and with two, and print the cost of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=10_000_000)
    pairs = parser.parse_args().objects // 2
    with tempfile.TemporaryDirectory() as folder:
        repository = empty_repository(Path(folder) / "many.git")
        generate(repository, pairs)
        for readers in (1, 2):
            with (Path(folder) / "answer").open("w+b") as answer:
                command = [sys.executable, "-c", OURS, str(repository), str(readers)]
                run = timed(command, Path.cwd(), answer)
                answer.seek(0)
                found = answer.read().decode().strip()
            print(
                f"  {readers} readers: {run.wall:6.1f} s, {run.processor:6.1f} s of processor time,"
                f" {run.memory:4.0f} MB anonymous, largest process; objects, bytes, found, unread: {found}"
            )


if __name__ == "__main__":
    main()

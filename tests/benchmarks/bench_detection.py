"""The speed of token detection on real source code, compared with `regex`, ripgrep and hyperscan.

Run: python -m tests.benchmarks.bench_detection [--quick]
"""

from __future__ import annotations

import argparse
import importlib
import mmap
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import regex

from scanner.detection import Detector
from scanner.detection.patterns.cores import core_groups
from scanner.detection.patterns.matcher import automata, windows
from scanner.detection.patterns.needles import needles
from tests.benchmarks.core_order import Sample, fastest_order
from tests.benchmarks.corpora import small_documents, source_corpus

PIECE = 8 << 20
ROUNDS = 5


def rates(contestants: dict[str, Callable[[], object]], size: int, rounds: int) -> dict[str, float]:
    """Call each function in `contestants` several times. Return each one's median speed in GB/s, by name.

    Args:
        contestants: Functions by name.
        size: The number of bytes that one call searches.
        rounds: The number of calls of each function.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: size / statistics.median(times) / 1e9 for name, times in seconds.items()}


def prefilter_alone(pieces: list[bytes]) -> Callable[[], object]:
    """Return a function that searches the byte strings with the matcher's quick first search (prefilter) only."""
    finders = [automaton.find for automaton in automata()]

    def run() -> None:
        for piece in pieces:
            view = memoryview(piece)
            for begin in range(0, len(piece), 256 << 10):
                for find in finders:
                    find(view[begin : begin + (256 << 10)])

    return run


def hyperscan(pieces: list[bytes]) -> Callable[[], object] | None:
    """Return a function that searches the byte strings with hyperscan, or None if it is not installed."""
    try:
        library: Any = importlib.import_module("hyperscan")
    except ImportError:
        return None
    texts = [needle.text for needle in needles()]
    compiled = library.Database(mode=library.HS_MODE_BLOCK)
    compiled.compile(
        expressions=[b"".join(b"\\x%02x" % byte for byte in text) for text in texts],
        ids=list(range(len(texts))),
        elements=len(texts),
        flags=[library.HS_FLAG_SOM_LEFTMOST] * len(texts),
    )
    return lambda: [compiled.scan(piece, match_event_handler=lambda *_: None) for piece in pieces]


def tune(content: bytes, steps: int = 20_000, seeds: int = 3) -> None:
    """Find and print the order of the prefilter's search strings that is fastest for `content`."""
    sample = Sample(content)
    cores = [core.text for group in core_groups() for core in group]
    tries = [fastest_order(cores, sample, steps, seed) for seed in range(seeds)]
    best = min(tries, key=lambda groups: sum(map(sample.cost, groups)))
    for group in best:
        print(f"{len(group)} cores; {sample.cost(group):.3%} of all places need a closer look")
    print([core for group in best for core in group])


def main() -> None:
    """Measure every search function. Print its speed, also relative to the prefilter's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="64 MB and fewer rounds")
    parser.add_argument("--tune", action="store_true", help="the best order of the cores, and nothing else")
    options = parser.parse_args()
    if options.tune:
        tune(source_corpus(64 << 20).read_bytes())
        return
    quick = options.quick
    size, rounds = (64 << 20, 3) if quick else (512 << 20, ROUNDS)
    path = source_corpus(size)
    pieces = _pieces(path)
    detector = Detector()
    plain = regex.compile(rb"r8_[0-9A-Za-z]{37}")
    contestants: dict[str, Callable[[], object]] = {
        "memory limit (count of a byte)": lambda: [piece.count(b"\xfe") for piece in pieces],
        "prefilter alone, same needles": prefilter_alone(pieces),
        "matcher": lambda: [list(windows(piece)) for piece in pieces],
        "engine, everything on": lambda: [detector.scan_bytes(piece) for piece in pieces],
    }
    if (other := hyperscan(pieces)) is not None:
        contestants["hyperscan, same needles"] = other
    if (program := shutil.which("rg")) is not None:
        ripgrep = [program, "-a", "-c", "--no-mmap", "r8_[0-9A-Za-z]{37}", str(path)]
        contestants["ripgrep, plain pattern only"] = lambda: subprocess.run(ripgrep, capture_output=True, check=False)
    found = rates(contestants, size, rounds)
    found |= rates({"regex, plain pattern only": lambda: [plain.findall(piece) for piece in pieces[:8]]}, 8 * PIECE, 2)
    base = found["prefilter alone, same needles"]
    print(f"{size >> 20} MB of real source, one core, median of {rounds}:")
    for name, rate in found.items():
        print(f"  {name:<34} {rate:7.2f} GB/s   {rate / base:5.2f} of the prefilter")
    _small(detector, 20_000 if quick else 100_000)
    print(
        f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB (with corpus)"
    )


def _pieces(path: Path) -> list[bytes]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [content[at : at + PIECE] for at in range(0, len(content), PIECE)]


def _small(detector: Detector, count: int) -> None:
    documents = small_documents(count)
    total = sum(map(len, documents))
    begin = time.perf_counter()
    for document in documents:
        detector.scan_bytes(document)
    seconds = time.perf_counter() - begin
    each = seconds / count * 1e6
    print(f"  {count} small documents: {total / seconds / 1e9:.2f} GB/s, {each:.1f} µs each ({total // count} bytes)")


if __name__ == "__main__":
    main()

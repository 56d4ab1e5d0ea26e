"""The processor time for hostile content: 1 MB of one needle (the first bytes of an encoded token), repeated.

Run: python -m tests.benchmarks.bench_needles [--quick]
"""

from __future__ import annotations

import argparse
import time

from scanner.detection import Detector
from scanner.detection.patterns.cores import core_groups
from scanner.detection.patterns.needles import needles

SIZE = 1 << 20
BETWEEN = (
    *(b"", b"\n", b'"', b" ", b",", b"=", b"A", b"\x00", b"\\n", b"', '", b'"\n"', b" | "),
    *(b"0000010: ", b"00000010: ", b"\n0000010 ", b"\n00000010: "),
)
"""The bytes between two needles. The last ones are offsets of hex dumps."""
SLOWEST = 10


def main() -> None:
    """Scan a content for each needle and separator. Print the slowest ones, in seconds of processor time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="each needle with one separator only")
    quick = parser.parse_args().quick
    texts = sorted({needle.text for needle in needles()} | {core.text for group in core_groups() for core in group})
    detector = Detector()
    detector.scan_bytes(b"".join(texts) * 100)  # compile the patterns
    costs = []
    for number, text in enumerate(texts):
        for between in (BETWEEN[number % len(BETWEEN)],) if quick else BETWEEN:
            row = text + between
            content = (row * (SIZE // len(row) + 1))[:SIZE]
            begin = time.process_time()
            detector.scan_bytes(content)
            costs.append((time.process_time() - begin, text, between))
    costs.sort(reverse=True)
    print(f"{len(costs)} contents of 1 MB; processor time of the slowest:")
    for seconds, text, between in costs[:SLOWEST]:
        print(f"  {seconds:.2f} s   {text!r} and {between!r}")


if __name__ == "__main__":
    main()

"""The table of docs/detection.md: each encoding and container, found or not, beside what Kingfisher finds in it.

Run: python -m tests.benchmarks.table_detection [--write]   (--write puts it into docs/detection.md)
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scanner.detection import Detector, Document, Place, sha256_digest
from tests.benchmarks import kingfisher
from tests.scanner.detection.container_builders import CONTAINERS
from tests.scanner.detection.token_encoders import ENCODINGS, NOT_FOUND, random_token

PAGE = Path(__file__).parents[2] / "docs" / "detection.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def cases() -> Iterator[tuple[str, str, bytes, bytes]]:
    """Section, name, token, and a file with the token in it."""
    number = 0
    sections = {"Encoding": ENCODINGS, "Not found, known": NOT_FOUND}
    for section, encoders in sections.items():
        for name, encode in encoders.items():
            number += 1
            token = random_token(random.Random(number))
            yield section, name, token, encode(token, random.Random(7))
    for name, build in CONTAINERS.items():
        number += 1
        token = random_token(random.Random(number))
        yield "Container", name, token, build(b"key: " + token + b"\n")


def table() -> str:
    """The table in Markdown."""
    detector, program = Detector(), kingfisher.binary()
    rows: list[tuple[str, str, bytes, bool]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (section, name, token, content) in enumerate(cases()):
            Path(folder, f"{number:03}").write_bytes(content)
            candidates = detector.scan(Document(content, Place("file"))).candidates
            rows.append((section, name, token, sha256_digest(token) in {c.digest for c in candidates}))
        names = [f"{number:03}" for number in range(len(rows))]
        theirs = kingfisher.tokens_by_file(program, Path(folder), names) if program else {}
    lines: list[str] = []
    for section in ("Encoding", "Container", "Not found, known"):
        lines += [f"| {section} | r8scan | Kingfisher |", "| --- | --- | --- |"]
        for number, (own_section, name, token, found) in enumerate(rows):
            if own_section == section:
                other = "not asked" if not program else _word(token.decode() in theirs[f"{number:03}"])
                lines.append(f"| {name.replace('|', chr(92) + '|')} | {_word(found)} | {other} |")
        lines.append("")
    return "\n".join(lines)


def _word(found: bool) -> str:
    return "found" if found else "–"


def main() -> None:
    """Print the table, or put it into its page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    made = table()
    if parser.parse_args().write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n{END}{rest.partition(END)[2]}")
    else:
        print(made)


if __name__ == "__main__":
    main()

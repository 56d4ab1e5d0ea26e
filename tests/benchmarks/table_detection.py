"""Makes the tables of encodings and containers in docs/detection.md.

The first table is for the default token format. It also shows what Kingfisher, another secret scanner, finds. The
second table lists the kinds of files in which a token is not found and nothing is counted as unread. The third table is
for three other formats.

Run: python -m tests.benchmarks.table_detection [--write] (With --write, it writes the tables into docs/detection.md.
The first table is written only if Kingfisher is installed.)
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scanner.detection import Detector, Document, Place, sha256_digest
from scanner.detection.patterns.token_formats import DEFAULT_FORMATS, TokenFormat, parse_formats, use_formats
from tests.benchmarks import kingfisher
from tests.scanner.detection.container_builders import CONTAINERS
from tests.scanner.detection.silent_kinds import SILENT_KINDS
from tests.scanner.detection.token_encoders import ENCODINGS, random_token

SECTIONS = ("Encoding", "Container")
PAGE = Path(__file__).parents[2] / "docs" / "detection.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
BEGIN_SILENT, END_SILENT = "<!-- table of silent kinds -->", "<!-- end of table of silent kinds -->"
BEGIN_OTHERS, END_OTHERS = "<!-- table of other formats -->", "<!-- end of table of other formats -->"
OTHERS = "sk_live_[0-9a-zA-Z]{24},hf_[A-Za-z]{34},acme-[a-f0-9]{32}"


def cases(form: TokenFormat = DEFAULT_FORMATS[0]) -> Iterator[tuple[str, str, bytes, bytes]]:
    """For each row of the table, yield the section's title, the encoding or container, the token, and a file's
    content.
    """
    number = 0
    for name, encode in ENCODINGS.items():
        number += 1
        token = random_token(random.Random(number), form)
        yield "Encoding", name, token, encode(token, random.Random(7))
    for name, build in CONTAINERS.items():
        number += 1
        token = random_token(random.Random(number), form)
        yield "Container", name, token, build(b"key: " + token + b"\n")


def table_of_others() -> str:
    """Return the table for three token formats other than the default, in Markdown."""
    formats = parse_formats(OTHERS)
    use_formats(formats)
    detector = Detector()
    rows: dict[str, dict[str, list[str]]] = {}
    for form in formats:
        for section, name, token, content in cases(form):
            candidates = detector.scan(Document(content, Place("file"))).candidates
            is_found = sha256_digest(token) in {candidate.digest for candidate in candidates}
            rows.setdefault(section, {}).setdefault(name, []).append(_word(is_found))
    use_formats(DEFAULT_FORMATS)
    lines: list[str] = []
    for section in SECTIONS:
        lines.append(f"| {section} | {' | '.join(f'`{form}`' for form in formats)} |")
        lines.append(f"| --- |{' --- |' * len(formats)}")
        lines += [
            f"| {name.replace('|', chr(92) + '|')} | {' | '.join(words)} |" for name, words in rows[section].items()
        ]
        lines.append("")
    return "\n".join(lines)


def table(program: str | None) -> str:
    """Return the table for the default token format, in Markdown.

    `program` is the path of Kingfisher, or None if it is not installed.
    """
    detector = Detector()
    rows: list[tuple[str, str, bytes, bool]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (section, name, token, content) in enumerate(cases()):
            Path(folder, f"{number:03}").write_bytes(content)
            candidates = detector.scan(Document(content, Place("file"))).candidates
            rows.append((section, name, token, sha256_digest(token) in {c.digest for c in candidates}))
        names = [f"{number:03}" for number in range(len(rows))]
        theirs = kingfisher.tokens_by_file(program, Path(folder), names) if program else {}
    lines: list[str] = []
    for section in SECTIONS:
        lines += [f"| {section} | r8scan | Kingfisher |", "| --- | --- | --- |"]
        for number, (own_section, name, token, found) in enumerate(rows):
            if own_section == section:
                other = "not asked" if not program else _word(token.decode() in theirs[f"{number:03}"])
                lines.append(f"| {name.replace('|', chr(92) + '|')} | {_word(found)} | {other} |")
        lines.append("")
    return "\n".join(lines)


def silent_table() -> str:
    """Return the table of the kinds of files in which a token is not found and nothing is counted as unread."""
    lines = ["| A token is not found, and nothing says so | Reason |", "| --- | --- |"]
    lines += [f"| {name.replace('|', chr(92) + '|')} | {kind.reason} |" for name, kind in SILENT_KINDS.items()]
    return "\n".join(lines) + "\n"


def _word(found: bool) -> str:
    return "found" if found else "–"


def _write(made: str, begin: str, end: str) -> None:
    before, _, rest = PAGE.read_text().partition(begin)
    PAGE.write_text(f"{before}{begin}\n\n{made}\n{end}{rest.partition(end)[2]}")


def main() -> None:
    """Print the tables, or write them into docs/detection.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    program = kingfisher.binary()
    made, made_of_others = table(program), table_of_others()
    if parser.parse_args().write:
        if program is not None:
            _write(made, BEGIN, END)
        _write(silent_table(), BEGIN_SILENT, END_SILENT)
        _write(made_of_others, BEGIN_OTHERS, END_OTHERS)
    else:
        print(made, silent_table(), made_of_others, sep="\n")


if __name__ == "__main__":
    main()

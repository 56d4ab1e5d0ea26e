"""Measures the cost of each hostile input for the table in docs/security.md.

Exit status 1: a limit was exceeded.

Run: python -m tests.benchmarks.table_attacks [--write] [--only NAME ...] [--part scan|service|edges]
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.attack_runs import Row, in_service, of_edges, of_scan
from tests.hostile.corpus import INPUTS
from tests.hostile.registry import HostileInput

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- attacks -->", "<!-- end of attacks -->"

MAX_READER_SECONDS = 10.0
MAX_ELSEWHERE_SECONDS = 0.5
MAX_MEMORY_MB = 400.0
MAX_NEIGHBOUR_SECONDS = 5.0
"""The maximum time from a token's publication until it is disabled. For a gist, add a minute until the next poll."""

PARTS: dict[str, Callable[[Path, list[HostileInput]], Iterator[Row]]] = {
    "scan": of_scan,
    "service": in_service,
    "edges": of_edges,
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A row of the table, and the names of the limits that its measurements exceed."""

    row: Row
    broken: tuple[str, ...]


def judged(row: Row) -> Judged:
    """Return the row together with the limits that its measurements exceed."""
    broken = []
    if row.reader_cpu > MAX_READER_SECONDS:
        broken.append("CPU of a reader")
    if row.elsewhere_cpu > MAX_ELSEWHERE_SECONDS:
        broken.append(f"CPU of {row.elsewhere}")
    if row.peak_mb > MAX_MEMORY_MB:
        broken.append("memory")
    if row.has_neighbour and not row.is_neighbour_found:
        broken.append("neighbour missed")
    elif row.neighbour_seconds > MAX_NEIGHBOUR_SECONDS and row.way != "gist":
        broken.append("neighbour late")
    if row.failure:
        broken.append(row.failure)
    return Judged(row, tuple(broken))


HEAD = (
    "| attack | by | size | CPU of a reader | CPU elsewhere | peak memory | recorded | leak beside it |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def line(one: Judged) -> str:
    """Return the row in Markdown."""
    row = one.row
    found = ("found" if row.is_neighbour_found else "missed") if row.has_neighbour else "–"
    if row.is_neighbour_found and row.neighbour_seconds:
        found = f"disabled after {row.neighbour_seconds:.1f} s"
    cells = [
        f"{row.family}: {row.attack}",
        row.way,
        _size(row.size),
        f"{row.reader_cpu:.1f} s",
        f"{row.elsewhere_cpu:.2f} s",
        f"{row.peak_mb:.0f} MB",
        row.recorded or "–",
        found,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


@contextmanager
def alone() -> Iterator[None]:
    """Hold a lock until the `with` block ends, so that only one measurement runs at a time."""
    with Path(tempfile.gettempdir(), "r8scan-attack-table.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def measure(parts: list[str], names: list[str]) -> list[Judged]:
    """Measure the inputs, and print each row when it is complete.

    Args:
        parts: The ways in which r8scan gets inputs. They are keys of PARTS.
        names: The names of the inputs, or an empty list for all inputs.
    """
    inputs = [one for one in INPUTS.values() if not names or one.name in names]
    found: list[Judged] = []
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory(prefix="r8scan-attacks-") as folder:
        for part in parts:
            for row in PARTS[part](Path(folder), inputs):
                found.append(judged(row))
                print(line(found[-1]), flush=True)
                if found[-1].broken:
                    print(f"  NOT KEPT by {row.name}: {', '.join(found[-1].broken)}", file=sys.stderr, flush=True)
    return found


def merged(page: str, rows: list[str], *, is_whole: bool) -> str:
    """Put the rows into the table of a documentation page, and return the page.

    Args:
        page: The text of the page.
        rows: Rows in Markdown.
        is_whole: Whether to remove the old rows of inputs that have no new row.
    """
    before, _, rest = page.partition(BEGIN)
    old, _, after = rest.partition(END)
    by_attack = {} if is_whole else {_attack(row): row for row in old.splitlines() if row.startswith("| ")}
    for name in map(_attack, HEAD.splitlines()):
        by_attack.pop(name, None)
    by_attack.update((_attack(row), row) for row in rows)
    table = "\n".join([HEAD, *by_attack.values()])
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def _attack(row: str) -> tuple[str, ...]:
    """Return the two cells that identify a row: the attack, and how r8scan gets the input."""
    return tuple(cell.strip() for cell in row.strip("|").split(" | ")[:2])


def main() -> int:
    """Print the table, or write it into docs/security.md. Return 1 if a limit was exceeded."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="put the table into docs/security.md")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="names of inputs")
    parser.add_argument("--part", nargs="*", default=list(PARTS), choices=list(PARTS))
    options = parser.parse_args()
    with alone():
        found = measure(options.part, options.only)
    if options.write:
        is_whole = not options.only and set(options.part) == set(PARTS)
        PAGE.write_text(merged(PAGE.read_text(), list(map(line, found)), is_whole=is_whole))
    broken = [one for one in found if one.broken]
    for one in broken:
        print(f"not kept: {one.row.name} by {one.row.way}: {', '.join(one.broken)}")
    print(f"{len(found)} attacks, {len(broken)} broke a limit")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""Puts tables between their markers in docs/coverage.md, and charts beside the model."""

from __future__ import annotations

from pathlib import Path

from coverage_model import charts
from coverage_model.results import Results
from coverage_model.tables import tables

FOLDER = Path(__file__).parents[1]
PAGE = FOLDER.parent / "coverage.md"
INPUTS = FOLDER / "inputs.toml"


def made_files(results: Results) -> dict[Path, str]:
    """The files that depend on the model, with the content they should have."""
    return {
        PAGE: with_tables(PAGE.read_text(encoding="utf-8"), tables(results)),
        FOLDER / "coverage.svg": charts.firehose_chart(results),
        FOLDER / "delay.svg": charts.delay_chart(results),
    }


def with_tables(page: str, made: dict[str, str]) -> str:
    """The page with each table between its markers. Raises ValueError if it lacks one."""
    for name, table in made.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"{PAGE.name} lacks the markers {begin} and {end}: put them where the table belongs")
        page = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return page

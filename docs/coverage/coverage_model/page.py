"""The pages that show the model's results: puts each table between its markers, and the charts beside the model."""

from __future__ import annotations

from pathlib import Path

from coverage_model import charts
from coverage_model.results import Results
from coverage_model.tables import tables

FOLDER = Path(__file__).parents[1]
PAGE = FOLDER.parent / "coverage.md"
APPENDIX = FOLDER.parent / "coverage-method.md"
INPUTS = FOLDER / "inputs.toml"
TABLES_OF_PAGE = ("answer", "deployments")
"""The tables in `PAGE`. All others are in `APPENDIX`."""


def made_files(results: Results) -> dict[Path, str]:
    """Return the files that depend on the model, with the content that they should have."""
    made = tables(results)
    short = {name: made.pop(name) for name in TABLES_OF_PAGE}
    return {
        PAGE: with_tables(PAGE.read_text(encoding="utf-8"), short),
        APPENDIX: with_tables(APPENDIX.read_text(encoding="utf-8"), made),
        FOLDER / "coverage.svg": charts.firehose_chart(results),
        FOLDER / "delay.svg": charts.delay_chart(results),
    }


def with_tables(page: str, made: dict[str, str]) -> str:
    """Return the page with each table between its markers.

    Raises:
        ValueError: the page lacks a marker.
    """
    for name, table in made.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"the page lacks the markers {begin} and {end}: put them where the table belongs")
        page = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return page

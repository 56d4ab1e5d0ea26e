"""Tests that the tables in docs/detection.md have the same kinds of files as the tests of the detector."""

from __future__ import annotations

from tests.benchmarks.table_detection import BEGIN, BEGIN_SILENT, END, END_SILENT, PAGE, silent_table
from tests.scanner.detection.container_builders import CONTAINERS
from tests.scanner.detection.token_encoders import ENCODINGS


def _part(begin: str, end: str) -> str:
    return PAGE.read_text().partition(begin)[2].partition(end)[0]


def test_the_page_lists_every_kind_that_stays_silent_and_no_other() -> None:
    assert _part(BEGIN_SILENT, END_SILENT).strip() == silent_table().strip()


def test_the_page_lists_every_encoding_and_container_that_is_found() -> None:
    rows = [line.split(" | ") for line in _part(BEGIN, END).splitlines() if line.startswith("| ")]
    names = [row[0].removeprefix("| ") for row in rows if row[1] == "found"]
    assert names == [name.replace("|", "\\|") for name in (*ENCODINGS, *CONTAINERS)]

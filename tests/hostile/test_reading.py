"""Tests that each hostile input is read within the limits, and that a token in it is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scanner.detection.digests import sha256_digest
from tests.hostile.corpus import inputs_for
from tests.hostile.measured import Measured, Measurer
from tests.hostile.registry import HostileInput

MAX_EDGE_CPU_SECONDS = 1
"""The CPU time limit for redacting or parsing one input in an unconfined process. It must be a whole number."""

pytestmark = pytest.mark.timeout(600)

READ = [*inputs_for("file"), *inputs_for("comment")]


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer() as measurer:
        yield measurer


def measured(measurer: Measurer, folder: Path, one: HostileInput, work: str, cpu_seconds: int = 10) -> Measured:
    path = folder / "input"
    path.write_bytes(one.content())
    return measurer.run(work, path, cpu_seconds=cpu_seconds)


@pytest.mark.parametrize("one", READ, ids=lambda one: one.name)
def test_reading_a_hostile_input_ends_by_itself_within_the_limits_of_a_reader(
    measurer: Measurer, tmp_path: Path, one: HostileInput
) -> None:
    done = measured(measurer, tmp_path, one, "read")
    assert done.is_within_limits, str(done)
    if one.cannot_be_read:
        assert done.result["unread"], "the result does not say that something was not read"
    if one.holds_leak:
        assert sha256_digest(one.leak) in done.result["digests"], "the leak inside it was missed"


@pytest.mark.parametrize("one", inputs_for("pack"), ids=lambda one: one.name)
def test_reading_a_hostile_pack_ends_within_the_limits_of_a_reader(
    measurer: Measurer, tmp_path: Path, one: HostileInput
) -> None:
    done = measured(measurer, tmp_path, one, "pack")
    assert done.is_within_limits, str(done)
    if one.cannot_be_read:
        assert done.result["unread"], "the result does not say that something was not read"


EDGES = {"text": "redact", "event": "event", "alert": "alert", "usage": "usage", "bounce": "bounce"}


@pytest.mark.parametrize("one", inputs_for(*EDGES), ids=lambda one: one.name)  # type: ignore[arg-type]  # deliveries
def test_content_that_needs_no_reader_takes_little_cpu(measurer: Measurer, tmp_path: Path, one: HostileInput) -> None:
    done = measured(measurer, tmp_path, one, EDGES[one.delivery], MAX_EDGE_CPU_SECONDS)
    assert done.is_within_limits, str(done)
    if one.holds_leak:
        assert sha256_digest(one.leak) in done.result["digests"], "the leak inside it was missed"

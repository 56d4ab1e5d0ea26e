"""Tests that each fuzz test passes on a few fixed inputs."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import HealthCheck

from tests.fuzz.mutations import check_format, formats
from tests.fuzz.targets import Target, read, targets

EXAMPLES = 60
MUTATIONS = 20

TARGETS = targets()

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_parser_of_hostile_bytes_raises_only_documented_exceptions_and_ends(target: Target) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(target.examples)
    def check(example: object) -> None:
        target.check(example)

    check()


@pytest.mark.parametrize("name", formats())
def test_a_damaged_file_of_any_format_is_read_within_its_limits(name: str) -> None:
    seen: list[bytes] = []
    check_format(name, MUTATIONS, read, seen.append)
    assert len(set(seen)) > MUTATIONS / 2


def test_each_target_has_a_unique_name() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)

"""Tests of search results that GitHub counts but does not show, and of pushes that GitHub's index loses."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update
from starlette.responses import JSONResponse

from scanner.records.source_models import SourceState
from scanner.sources.repository_search.windows import LOOKS_AFTER
from tests.scanner.sources.repository_search.searching import SOURCE, Searching, only_sqlite

RATE = 3.0


def hide(search: Searching, numbers: range) -> dict[str, bool]:
    """Let GitHub count the repositories ana/appN in search results, but not show them.

    Args:
        numbers: The values of N.

    Returns:
        A dictionary. Set its key `is_over` to True to show the repositories again.
    """
    describe, state = search.sandbox.graphql.describe, {"is_over": False}
    names = {f"ana/app{number}" for number in numbers}

    def described(number: int) -> dict[str, Any] | None:
        shown = describe(number)
        return None if shown and shown["nameWithOwner"] in names and not state["is_over"] else shown

    search.sandbox.graphql.describe = described
    return state


@only_sqlite
@pytest.mark.parametrize("is_repaired", [True, False])
def test_results_that_github_counts_but_does_not_show_are_read_later_or_recorded_as_a_gap(
    search: Searching, is_repaired: bool
) -> None:
    search.poll()
    for number in range(150):
        search.push(f"ana/app{number}")
    hidden = hide(search, range(10))
    search.poll_for(90, every=30)
    assert len(set(search.names)) == 140
    hidden["is_over"] = is_repaired
    for _ in LOOKS_AFTER:
        search.look_again()
        search.poll(5)
    assert len(set(search.names)) == (150 if is_repaired else 140)
    # Ignore gaps for other reasons, for example the quiet time after the first pushes.
    gaps = [gap.estimated for gap in search.gaps if gap.reason == "results_not_shown"]
    assert gaps == ([] if is_repaired else [10])


@only_sqlite
def test_pushes_during_a_pause_that_enter_the_index_late_are_found_by_a_later_look(search: Searching) -> None:
    search.poll()
    search.sandbox.index.lag = 400
    search.push("ana/late", ago=-200)
    search.poll(500)
    assert search.names == []
    assert search.plan.behind == []
    search.look_again()
    search.poll(200)
    assert search.names == ["ana/late"]


@only_sqlite
def test_a_pause_whose_pushes_the_index_lost_is_recorded_as_a_gap(search: Searching) -> None:
    search.poll()
    begin = search.now
    for number in range(300):
        search.push(f"ana/app{number}", ago=-number / RATE)
    # A repository has two chances to enter the index: when it is created, and when it is pushed to.
    search.sandbox.index.lost = 0.9
    for number in range(900):
        search.push(f"ben/app{number}", ago=-100 - number / RATE)
    search.now += 2 * 3600
    with search.database.write() as session:
        behind = [[int(begin), int(begin) + 399]]
        cursor = {**search.plan.to_json(), "until": int(search.now), "behind": behind, "rate": RATE}
        session.execute(update(SourceState).where(SourceState.source == SOURCE).values(cursor=cursor))
    for _ in range(3):
        search.poll(1)
    assert search.plan.behind == []
    assert {gap.reason for gap in search.gaps} == {"index_incomplete"}
    lost = 900 - sum(name.startswith("ben/") for name in set(search.names))
    assert sum(gap.estimated for gap in search.gaps) == pytest.approx(lost, rel=0.25)
    assert min(gap.from_at for gap in search.gaps).timestamp() <= begin + 100
    assert max(gap.until_at for gap in search.gaps).timestamp() == begin + 399


@only_sqlite
def test_the_rest_search_is_used_while_graphql_fails(search: Searching) -> None:
    search.poll()
    search.push("ana/app")
    search.sandbox.graphql.gives_up = 1000
    search.poll_for(300, every=30)
    assert search.names == ["ana/app"]
    assert "gave up on a query" in str(search.state.error)
    search.sandbox.graphql.gives_up = 0
    search.poll(15)
    assert search.state.error is None


@only_sqlite
def test_an_answer_that_github_calls_incomplete_is_requested_again(search: Searching) -> None:
    search.poll()
    search.push("ana/app", ago=-10)
    search.sandbox.graphql.gives_up = 1000
    empty = {"total_count": 0, "incomplete_results": True, "items": []}
    search.sandbox.faults["repository_search"].append(lambda: JSONResponse(empty))
    search.poll_for(300, every=30)
    assert search.names == ["ana/app"]
    assert search.state.counts["partial_answers"] == 1

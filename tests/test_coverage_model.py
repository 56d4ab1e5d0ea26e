"""Tests for the model behind the numbers on the coverage pages of the docs."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from coverage_model import charts, deployments, firehose, page, sources
from coverage_model.inputs import InputError, Inputs, load
from coverage_model.measured import with_measurements
from coverage_model.results import Results, compute
from coverage_model.tables import tables

MODEL = page.FOLDER / "model.py"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return load(page.INPUTS)


@pytest.fixture(scope="module")
def results(inputs: Inputs) -> Results:
    return compute(inputs)


def test_the_page_and_its_charts_are_generated_from_the_inputs(results: Results) -> None:
    for path, content in page.made_files(results).items():
        assert path.read_text(encoding="utf-8") == content, "run: python docs/coverage/model.py --write"


def test_both_pages_show_the_tables_that_the_command_prints(results: Results) -> None:
    printed = "\n".join(tables(results).values())
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    assert len(rows) > 40
    shown = [path.read_text(encoding="utf-8").splitlines() for path in (page.PAGE, page.APPENDIX)]
    assert set(rows) <= {line for lines in shown for line in lines}


def test_page_1_once_a_minute_shows_two_percent_of_the_events(inputs: Inputs, results: Results) -> None:
    assert firehose.one_window_share(inputs) == pytest.approx(0.0226, abs=0.0001)
    # In the model, some polls fail, so the polls see a little less than 2.27 % of the events.
    assert 0.02 < results.shares.uncoordinated[0] <= 0.0227


def test_repository_search_shows_most_pushes_and_fits_the_points_of_one_credential(
    inputs: Inputs, results: Results
) -> None:
    search, listed = inputs.repository_search, results.named("public events, repository search, new repositories")
    assert search.points_per_hour + inputs.new_repositories.points_per_hour < inputs.limits.points_per_hour
    assert results.sources["repository_search"].seconds[0] >= search.settle_seconds
    assert listed.cost.pushes_per_second > 0.9 * inputs.firehose.events_per_second * inputs.firehose.read_share
    # The GraphQL points of one hour are enough to read all pages of the search results once.
    pages = 3600 * inputs.firehose.events_per_second * inputs.firehose.push_share / 100
    assert pages < search.points_per_hour


def test_staggered_polls_add_up_and_random_polls_follow_the_closed_form(inputs: Inputs) -> None:
    plain = replace(
        inputs,
        firehose=replace(inputs.firehose, daily_swing=0.0, burst_swing=0.0),
        public_events=replace(inputs.public_events, seconds_between_pages=0.0, failed_polls=0.0),
    )
    shares, window = firehose.simulate(plain), 95 / 4200
    for count in (1, 5, 10):
        assert shares.staggered[count - 1] == pytest.approx(window * count, rel=0.03)
        assert shares.uncoordinated[count - 1] == pytest.approx(1 - (1 - window) ** count, rel=0.06)
    assert shares.staggered[-1] == pytest.approx(window * 20, rel=0.03)


def test_more_credentials_never_see_less_and_never_more_than_all_pushes(results: Results) -> None:
    shares = results.shares
    for kind in (shares.staggered, shares.uncoordinated, shares.same_windows):
        assert list(kind) == sorted(kind)
        assert all(0 < share <= 1 for share in kind)
        assert all(share <= results.with_archive(share) <= 1 for share in kind)
    for same, random, even in zip(shares.same_windows, shares.uncoordinated, shares.staggered, strict=True):
        assert same <= random <= even + 0.005


def test_a_further_source_or_installation_never_finds_less_or_later(inputs: Inputs, results: Results) -> None:
    leaks = sources.draw_leaks(inputs)[:3000]
    for count in range(1, len(deployments.ALL)):
        fewer = deployments.delays(inputs, leaks, deployments.ALL[:count], 0.07).seconds
        more = deployments.delays(inputs, leaks, deployments.ALL[: count + 1], 0.07).seconds
        assert all(late >= early for late, early in zip(fewer, more, strict=True))
    one, five = (
        deployments.delays(inputs, leaks, deployments.ALL[:3], results.shares.uncoordinated[number - 1], number)
        for number in (1, 5)
    )
    assert all(one.share_within(seconds) <= five.share_within(seconds) for seconds in (60, 3600, 86400, sources.WEEK))


def test_a_source_is_no_faster_than_the_index_or_file_that_it_waits_for(inputs: Inputs, results: Results) -> None:
    assert results.sources["public_events"].seconds[0] >= inputs.public_events.visible_earliest_seconds
    assert results.sources["event_archive"].seconds[0] >= inputs.event_archive.published_after_seconds
    assert results.sources["code_search"].seconds[0] >= inputs.code_search.index_earliest_seconds
    assert sources.archive_drain_seconds(inputs) <= 3600


def test_the_advice_of_the_page_agrees_with_the_model(results: Results) -> None:
    found = {source: own.share_within(sources.WEEK) for source, own in results.sources.items()}
    assert max(found, key=lambda source: found[source]) == "partner_alerts"
    assert results.named("all sources").cost.cores < 1
    assert results.named("public events").cost.rest_budget < 0.1
    assert all(outcome.cost.rest_budget < 1 for outcome in results.outcomes)


def test_a_round_of_code_search_grows_with_queries_and_matches(inputs: Inputs) -> None:
    requests = [sources.code_search_requests(inputs, 1, matches) for matches in (0, 100, 1_000, 1_001, 20_000, 80_000)]
    assert requests == sorted(requests)
    assert requests[:3] == [1, 1, 10]
    assert sources.code_search_requests(inputs, 4, 20_000) == 4 * requests[4]
    chances = [(number + 0.5) / 1000 for number in range(1000)]
    for count in (1, 5):
        mean = sum(sources.code_search_wait(inputs, chance, count) for chance in chances) / len(chances)
        assert mean == pytest.approx(sources.code_search_round_seconds(inputs) / (count + 1), rel=0.01)


def test_ranges_that_overlap_count_once() -> None:
    assert firehose.union_length([]) == 0
    assert firehose.union_length([(0, 10), (5, 12), (20, 30), (22, 25)]) == 22


@pytest.mark.parametrize("chart", ["coverage.svg", "delay.svg"])
def test_charts_are_named_for_screen_readers_and_fit_their_frame(chart: str) -> None:
    root = ElementTree.fromstring((page.FOLDER / chart).read_text(encoding="utf-8"))
    assert root.get("role") == "img"
    names = {element.get("id") for tag in ("title", "desc") for element in root.iter(f"{SVG}{tag}") if element.text}
    assert names == set(str(root.get("aria-labelledby")).split())
    assert "prefers-color-scheme: dark" in str(root.findtext(f"{SVG}style"))
    for text in root.iter(f"{SVG}text"):
        assert 0 < float(str(text.get("y"))) < charts.HEIGHT
        width = 6.6 * len(str(text.text))  # more than the real width in pixels, for a font size of 13 px
        if not {"end", "middle", "title"} & set(str(text.get("class")).split()):
            assert 0 < float(str(text.get("x"))) < charts.WIDTH - width


def test_labels_keep_their_distance_and_their_order_within_the_plot() -> None:
    for wanted in ([100.0, 100.0, 101.0], [384.0, 384.0, 383.0, 90.0], [92.0]):
        heights = charts.label_heights(wanted)
        placed = sorted(heights)
        assert all(after - before >= charts.LABEL_GAP for before, after in pairwise(placed))
        assert placed[-1] <= charts.BOTTOM
        assert sorted(range(len(wanted)), key=lambda at: (wanted[at], at)) == sorted(
            range(len(wanted)), key=lambda at: heights[at]
        )


def test_every_input_says_where_it_comes_from() -> None:
    kinds = ("documented", "reported", "measured", "setting", "assumption", "from the same report")
    text = page.INPUTS.read_text(encoding="utf-8").partition("[simulation]")[0]
    for line in text.splitlines():
        if re.match(r"\w+ = ", line):
            assert any(kind in line.partition("#")[2] for kind in kinds), line


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("events_per_second = 70.0", "events_per_second = 0"), "events_per_second must be more than 0"),
        (("push_share = 0.95", "push_share = 95"), "push_share is a share"),
        (("push = 0.40", "push = 0.60"), "must add up to 1"),
        (("threads = 8", "threads = true"), "threads must be a whole number"),
        (("threads = 8", ""), "threads is missing"),
        (("threads = 8", "threads = 8\nfibres = 8"), "fibres is unknown"),
        (("push_seconds = 0.4", "push_seconds = 4.0"), "more processes"),
        (("most_installations = 20", "most_installations = 4"), "must be at least 20"),
        (("[gists]", "[gist]"), "unknown section [gist]"),
        (("[gists]", "[gists"), "inputs.toml:"),
    ],
)
def test_an_input_that_cannot_be_used_is_named_in_one_line(
    wrong: tuple[str, str], message: str, tmp_path: Path
) -> None:
    text = page.INPUTS.read_text(encoding="utf-8")
    assert wrong[0] in text
    changed = tmp_path / "inputs.toml"
    changed.write_text(text.replace(wrong[0], wrong[1], 1), encoding="utf-8")
    with pytest.raises(InputError) as raised:
        load(changed)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_page_without_a_marker_is_refused() -> None:
    with pytest.raises(ValueError, match="answer"):
        page.with_tables("# Coverage", {"answer": "|"})


STATUS = {
    "sources": [
        {
            "source": "repository_search",
            "recall": {
                "60": [900, 0, 0, 0],
                "300": [900, 405, 0, 0],
                "900": [900, 810, 0, 0],
                "86400": [900, 810, 0, 0],
            },
            "total": [9_849_600, 9_000_000, 11_000_000],
            "cursor": {"settle": 90.0, "width": 12},
        },
        {"source": "new_repositories", "recall": {"3600": [800, 1, 0, 0], "86400": [400, 380, 0, 0]}, "total": []},
        {"source": "public_events", "recall": {}, "total": [], "cursor": {}},
    ]
}


def test_measurements_of_an_installation_replace_assumptions(inputs: Inputs) -> None:
    changed, replaced = with_measurements(inputs, STATUS)
    search = changed.repository_search
    assert search.indexed_share == pytest.approx(0.9)
    assert (search.settle_seconds, search.window_seconds) == (90.0, 12)
    # In STATUS, half of the pushes were in the search index within 300 s, and all within 900 s. The model spreads the
    # delays evenly on a logarithmic scale, so the shortest delay is 100 s.
    assert search.lag_earliest_seconds == pytest.approx(100)
    assert search.lag_latest_seconds == pytest.approx(900)
    assert changed.firehose.events_per_second == pytest.approx(9_849_600 / 86_400 / inputs.firehose.push_share)
    assert changed.new_repositories.listed_share == pytest.approx(0.95)
    assert len(replaced) == 7


def test_few_marks_replace_nothing_and_another_file_is_refused(inputs: Inputs) -> None:
    few = {"sources": [{"source": "repository_search", "recall": {"86400": [9, 9, 0.7, 1]}, "total": [], "cursor": {}}]}
    assert with_measurements(inputs, few) == (inputs, [])
    for wrong in ({}, {"sources": "x"}, {"sources": [{"source": "repository_search", "recall": {"60": "x"}}]}):
        with pytest.raises(InputError, match="status"):
            with_measurements(inputs, wrong)

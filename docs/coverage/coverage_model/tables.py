"""The tables of docs/coverage.md in Markdown, by the names of their markers in the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coverage_model import deployments, sources
from coverage_model.deployments import Cost, cost
from coverage_model.firehose import one_window_share
from coverage_model.inputs import INSTALLATIONS
from coverage_model.results import Results
from coverage_model.sources import code_search_requests, gists_share
from coverage_model.words import duration, figure, number, percent, two_digits

SEARCHES = ((2, 5_000), (4, 20_000), (8, 20_000), (8, 80_000))


def tables(results: Results) -> dict[str, str]:
    """Return all tables by name."""
    return {
        "answer": _answer(results),
        "deployments": _deployments(results),
        "firehose": _firehose(results),
        "sources": _sources(results),
        "search": _search(results),
        "cost": _cost(results),
        "sensitivity": _sensitivity(results),
    }


def _answer(results: Results) -> str:
    single, five = results.shares.uncoordinated[0], results.shares.uncoordinated[4]
    search = results.named("all that is polled").delays
    alerts = results.named("partner alerts alone").delays
    everything = results.named("all sources").delays
    quota = results.named("public events").cost.rest_budget
    events = results.inputs.public_events
    index = results.inputs.repository_search
    shown, late = index.indexed_share * (1 - index.again_share), index.lag_latest_seconds
    listed = results.named("public events, repository search, new repositories").cost
    points = listed.points_per_hour / results.inputs.limits.points_per_hour
    lines = (
        f"One credential sees **{percent(single)}** of the firehose, within minutes, and uses {percent(quota)} of its "
        "REST quota: the poll interval is the limit, so neither more quota nor more machines show more. "
        f"(Page 1, with {events.window_events} pushes, once a minute is {percent(one_window_share(results.inputs))}; "
        "polls that fail take the rest.)",
        f"Repository search and new repositories show **{percent(shown)}** of all pushes within {duration(late)}, if "
        f"the search index lags as assumed, for {percent(points)} of the GraphQL points. r8scan measures the lag.",
        f"Events and the event archive alone show **{percent(results.with_archive(single))}**, an hour later. "
        f"Five separate installations would see {percent(five)} within minutes, "
        f"{percent(results.with_archive(five))} with the archive.",
        f"Counted in leaks: everything one can poll finds {percent(search.share_within(7200))} within two hours. "
        f"GitHub's partner alerts alone find {percent(alerts.share_within(7200))}, if our assumptions about them hold; "
        f"all sources together {percent(everything.share_within(7200))}.",
    )
    return "\n".join(f"* {line}" for line in lines)


def _deployments(results: Results) -> str:
    rows = []
    for outcome in results.outcomes:
        found, own = outcome.delays, outcome.cost
        shares = [percent(found.share_within(seconds)) for seconds in (300, 7200, sources.WEEK)]
        rows.append(
            [
                outcome.deployment.name,
                *shares,
                two_digits(results.inputs.leaks.per_day * (1 - found.share_within(sources.WEEK))),
                *(duration(found.of_found().of_all(share)) for share in (0.5, 0.95)),
                *(two_digits(value) for value in (own.cores, own.gb_per_day)),
            ]
        )
    missed = f"missed of {number(results.inputs.leaks.per_day)} a day"
    head = ["sources", "5 min", "2 h", "a week", missed, "found: median", "found: p95", "cores", "GB a day"]
    return _table(head, rows)


def _firehose(results: Results) -> str:
    shares, single, rows = results.shares, results.shares.uncoordinated[0], []
    for count in INSTALLATIONS:
        seen = [getattr(shares, kind)[count - 1] for kind in ("same_windows", "uncoordinated", "staggered")]
        own = cost(results.inputs, ["public_events"], single, seen[1], count)
        rows.append(
            [
                str(count),
                *(f"{percent(share)} → {percent(results.with_archive(share))}" for share in seen),
                f"{own.rest_per_hour:,.0f}",
                percent(own.rest_budget),
            ]
        )
    kinds = ["one list for all", "uncoordinated", "evenly spread"]
    return _table(["N", *kinds, "requests an hour", "of each REST quota"], rows)


def _sources(results: Results) -> str:
    inputs = results.inputs
    requests = {source: cost(inputs, [source], results.shares.uncoordinated[0], 0.0) for source in deployments.ALL}
    uses = {
        "public_events": f"{requests['public_events'].rest_per_hour:.0f} REST",
        "event_archive": "1 file",
        "code_search": f"{requests['code_search'].search_per_hour:.0f} searches, "
        f"{requests['code_search'].rest_per_hour:.0f} REST",
        "gists": f"{requests['gists'].rest_per_hour:.0f} REST",
        "repository_search": f"{requests['repository_search'].points_per_hour:,.0f} points",
        "new_repositories": f"{requests['new_repositories'].rest_per_hour:.0f} REST, "
        f"{requests['new_repositories'].points_per_hour:.0f} points",
        "partner_alerts": "none: GitHub calls us",
    }
    shows = {
        "public_events": f"{percent(results.shares.uncoordinated[0])} of events",
        "event_archive": f"{percent(inputs.archive_share)} of events",
        "code_search": f"{percent(inputs.code_search.findable_share)} of plain leaks by push (assumed)",
        "gists": f"{percent(gists_share(inputs))} of new public gists",
        "repository_search": f"{percent(inputs.repository_search.indexed_share)} of pushes (assumed)",
        "new_repositories": f"{percent(inputs.new_repositories.listed_share)} of new public repositories (assumed)",
        "partner_alerts": f"{percent(inputs.partner_alerts.seen_share)} of plain leaks (assumed)",
    }
    rows = []
    for source, found in results.sources.items():
        own = found.of_found()
        rows.append(
            [
                source.replace("_", " "),
                shows[source],
                percent(found.share_within(sources.WEEK)),
                duration(own.of_all(0.5)),
                duration(own.of_all(0.95)),
                uses[source],
            ]
        )
    return _table(["source", "shows", "of all leaks", "median", "p95", "requests an hour"], rows)


def _search(results: Results) -> str:
    rows = []
    for queries, matches in SEARCHES:
        requests = code_search_requests(results.inputs, queries, matches)
        whole = 60 * requests / results.inputs.code_search.requests_per_minute
        waits = [duration(whole), *(duration(whole / (count + 1)) for count in (1, 5))]
        rows.append([str(queries), f"{matches:,}", f"{requests:,}", *waits])
    head = ["queries", "matches of each", "requests a round", "a round", "mean wait, N = 1", "mean wait, N = 5"]
    return _table(head, rows)


def _cost(results: Results) -> str:
    shares, rows = results.shares, []
    for count in INSTALLATIONS:
        chosen = [(deployments.ALL[:1], "events"), (deployments.ALL[:2], "events, archive")]
        if count == 1:
            chosen.append((deployments.LISTED, "events, repository search, new repositories"))
        for chosen_sources, label in chosen:
            seen = shares.uncoordinated[count - 1]
            own = cost(results.inputs, chosen_sources, shares.uncoordinated[0], seen, count)
            rows.append([f"{count}, {label}", *_cost_figures(own)])
    whole = cost(results.inputs, ["public_events"], 1.0, 1.0)
    rows.append(["the whole firehose, if a source showed it", *_cost_figures(whole)])
    return _table(["N, sources", "pushes a second", "cores", "GB a day", "rows a day", "rows kept"], rows)


def _cost_figures(own: Cost) -> list[str]:
    figures = (own.pushes_per_second, own.cores, own.gb_per_day, own.rows_per_day, own.rows_kept)
    return [two_digits(value) for value in figures]


def _sensitivity(results: Results) -> str:
    polled = results.named("all that is polled").delays.share_within(7200)
    everything = results.named("all sources").delays.share_within(7200)
    rows = [["as given", "", "", percent(polled), percent(everything)]]
    rows += [
        [
            trial.label,
            figure(trial.key, trial.given),
            " … ".join(figure(trial.key, value) for value in trial.tried),
            " … ".join(percent(share) for share in trial.without_alerts),
            " … ".join(percent(share) for share in trial.all_sources),
        ]
        for trial in results.trials
    ]
    return _table(["input", "given", "tried", "all that is polled", "all sources"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

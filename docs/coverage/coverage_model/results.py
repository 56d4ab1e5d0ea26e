"""The results that are computed once from the inputs, for the tables and the charts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from coverage_model import deployments, firehose, sources
from coverage_model.deployments import DEPLOYMENTS, Cost, Delays, Deployment
from coverage_model.inputs import Inputs

# Uncertain inputs, each with a low and a high value to try instead.
TRIED: tuple[tuple[str, str, str, float, float], ...] = (
    ("events a second", "firehose", "events_per_second", 35.0, 140.0),
    ("events visible within 90 s", "public_events", "prompt_share", 0.5, 0.99),
    ("pushes that the search index ever shows", "repository_search", "indexed_share", 0.5, 0.99),
    ("from push to search index, at most", "repository_search", "lag_latest_seconds", 60.0, 7_200.0),
    ("pushes to other branches", "repository_search", "other_branch_share", 0.05, 0.4),
    ("pushes an hour in the archive", "event_archive", "pushes_per_hour", 34_000.0, 136_000.0),
    ("leaks that code search can find at all", "code_search", "findable_share", 0.2, 0.8),
    ("matches of one query", "code_search", "matches_per_query", 5_000, 80_000),
    ("from push to index, at most", "code_search", "index_latest_seconds", 3_600.0, 604_800.0),
    ("leaks written plainly", "leaks", "plain_share", 0.8, 0.99),
    ("plain leaks that partner alerts report", "partner_alerts", "seen_share", 0.5, 0.99),
    ("from public to partner alert, at most", "partner_alerts", "latest_seconds", 60.0, 86_400.0),
)


@dataclass(frozen=True)
class DeploymentResult:
    """A deployment with its finds and costs."""

    deployment: Deployment
    delays: Delays
    cost: Cost


@dataclass(frozen=True)
class Trial:
    """The effect of one assumption: the shares of all leaks disabled within two hours, at its low and its high
    value.
    """

    label: str
    key: str
    given: float
    tried: tuple[float, float]
    without_alerts: tuple[float, float]
    all_sources: tuple[float, float]


@dataclass(frozen=True)
class Results:
    inputs: Inputs
    shares: firehose.Shares
    sources: dict[str, Delays]
    outcomes: tuple[DeploymentResult, ...]
    trials: tuple[Trial, ...]

    def with_archive(self, share: float) -> float:
        """Return the share of events that are known after the archive's file was read.

        The polls and the archive miss events independently.
        """
        return 1 - (1 - share) * (1 - self.inputs.archive_share)

    def named(self, name: str) -> DeploymentResult:
        return next(outcome for outcome in self.outcomes if outcome.deployment.name == name)


def compute(inputs: Inputs) -> Results:
    """Compute all results. It takes some seconds, and the results depend only on the inputs."""
    shares, leaks = firehose.simulate(inputs), sources.draw_leaks(inputs)
    single = shares.uncoordinated[0]
    by_source = {source: deployments.delays(inputs, leaks, [source], single) for source in deployments.ALL}
    outcomes = []
    for each in DEPLOYMENTS:
        pooled = shares.uncoordinated[each.installations - 1]
        found = deployments.delays(inputs, leaks, each.sources, pooled, each.installations)
        outcomes.append(
            DeploymentResult(each, found, deployments.cost(inputs, each.sources, single, pooled, each.installations))
        )
    trials = tuple(_trial(inputs, leaks, single, *tried) for tried in TRIED)
    return Results(inputs, shares, by_source, tuple(outcomes), trials)


def _trial(
    inputs: Inputs,
    leaks: list[sources.Leak],
    single: float,
    label: str,
    section: str,
    key: str,
    low: float,
    high: float,
) -> Trial:
    pairs = [_tried(inputs, leaks, single, section, key, value) for value in (low, high)]
    without, everything = zip(*pairs, strict=True)
    return Trial(label, key, getattr(getattr(inputs, section), key), (low, high), without, everything)


def _tried(
    inputs: Inputs, leaks: list[sources.Leak], single: float, section: str, key: str, value: Any
) -> tuple[float, float]:
    changed = replace(inputs, **{section: replace(getattr(inputs, section), **{key: value})})
    if section in ("firehose", "public_events"):
        one = replace(changed, simulation=replace(changed.simulation, most_installations=1))
        single = firehose.simulate(one).uncoordinated[0]
    without, everything = (
        deployments.delays(changed, leaks, chosen_sources, single).share_within(7200)
        for chosen_sources in (deployments.POLLED, deployments.ALL)
    )
    return without, everything

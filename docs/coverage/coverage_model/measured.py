"""Replacement of assumed inputs by what an installation has measured: the output of `r8scan status --json`. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from coverage_model.inputs import InputError, Inputs

DAY_SECONDS = 86_400
MIN_MARKS = 100
"""A share that was measured with fewer pushes is too uncertain to replace an assumption."""
NEARLY_ALL = 0.95
"""The longest lag is the first time after which at least this share of a day's pushes is shown."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """One input that a measurement replaced."""

    name: str
    given: float
    measured: float


def with_measurements(inputs: Inputs, status: Mapping[str, Any]) -> tuple[Inputs, list[Replaced]]:
    """Return the inputs with the measured values of the status, and the list of replaced inputs.

    An input is kept if too little was measured.

    Raises:
        InputError: `status` is not the output of `r8scan status --json`.
    """
    rows = status.get("sources")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) and "source" in row for row in rows):
        raise InputError("the status has no list of sources: give the output of r8scan status --json")
    by_name = {row["source"]: row for row in rows}
    replaced: list[Replaced] = []
    try:
        search = _search(by_name.get("repository_search", {}), inputs, replaced)
        new = _new(by_name.get("new_repositories", {}), inputs, replaced)
        firehose = _firehose(by_name.values(), inputs, replaced)
    except (TypeError, ValueError, KeyError, IndexError) as err:
        raise InputError(f"the status has an unknown form ({type(err).__name__})") from err
    return replace(inputs, repository_search=search, new_repositories=new, firehose=firehose), replaced


def _search(row: Mapping[str, Any], inputs: Inputs, replaced: list[Replaced]) -> Any:
    shares = _shares(row)
    values: dict[str, float] = {}
    day = shares.get(DAY_SECONDS, 0.0)
    if day > 0:
        values["indexed_share"] = day
        earliest, latest = _lag({seconds: share / day for seconds, share in shares.items()})
        values |= {"lag_earliest_seconds": earliest, "lag_latest_seconds": latest}
    cursor = row.get("cursor") or {}
    for name, key in (("settle_seconds", "settle"), ("window_seconds", "width")):
        if cursor.get(key):
            values[name] = float(cursor[key])
    return _changed("repository_search", inputs.repository_search, values, replaced)


def _new(row: Mapping[str, Any], inputs: Inputs, replaced: list[Replaced]) -> Any:
    day = _shares(row).get(DAY_SECONDS, 0.0)
    return _changed("new_repositories", inputs.new_repositories, {"listed_share": day} if day else {}, replaced)


def _shares(row: Mapping[str, Any]) -> dict[int, float]:
    """Return the measured share of pushes that a source showed within each number of seconds.

    Shares of fewer than MIN_MARKS pushes are left out.
    """
    recall = row.get("recall") or {}
    return {int(seconds): share[1] / share[0] for seconds, share in recall.items() if share[0] >= MIN_MARKS}


def _firehose(rows: Any, inputs: Inputs, replaced: list[Replaced]) -> Any:
    totals = [row["total"] for row in rows if row.get("total")]
    values: dict[str, float] = {}
    if totals:
        values["events_per_second"] = float(totals[0][0]) / DAY_SECONDS / inputs.firehose.push_share
    return _changed("firehose", inputs.firehose, values, replaced)


def _lag(shares: Mapping[int, float]) -> tuple[float, float]:
    """Return the shortest and the longest lag. `shares` has the share of a day's pushes shown, by seconds."""
    latest = next(seconds for seconds in sorted(shares) if shares[seconds] >= NEARLY_ALL or seconds == DAY_SECONDS)
    inner = [(seconds, share) for seconds, share in sorted(shares.items()) if seconds < latest and share > 0]
    if not inner:
        return min(shares) / math.e, float(latest)
    seconds, share = inner[0]
    # Assume that the share grows evenly with log(seconds): from 0 at `begin` through this point to 1 at `latest`.
    begin = math.exp((math.log(seconds) - share * math.log(latest)) / (1 - share))
    return max(begin, 1.0), float(latest)


def _changed(section: str, values: Any, measured: Mapping[str, float], replaced: list[Replaced]) -> Any:
    replaced += [Replaced(f"[{section}] {name}", getattr(values, name), value) for name, value in measured.items()]
    return replace(values, **measured)

"""The `r8scan status` command, which shows whether the service works and its problems."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from scanner.records.states import CanaryWay, Channel, EnforceMode, SightingState
from scanner.settings import load_settings
from scanner.sources.canaries import ways
from workers.cli import output, words
from workers.cli.opening import opened_database
from workers.cli.output import message_state
from workers.cli.tables import WrappedLine
from workers.health.canaries import outcome
from workers.health.overview import overview
from workers.health.problems import DECISIONS, Kind, Problem, counted
from workers.health.rows import IncidentRow, OutboxRow, Overview, SourceRow
from workers.health.verdict import verdict

WATCH_SECONDS = 2.0
UNREADABLE = (Kind.DATABASE_AWAY, Kind.DATABASE_VERSION)
"""Problems that make it impossible to read the service's state."""


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show the status again every two seconds.")] = False,
) -> None:
    """Say whether the service works and what is wrong; then show its sources, queues, messages and last incidents.

    Exit status: 0 all is well, 1 there are problems, or the service does not work yet.

    Example: r8scan status --json | jq .problems
    """
    # `opened_context` imports all network clients, which takes longer than reading the status.
    settings = load_settings()
    with opened_database(settings, any_version=True) as database:

        def look() -> Overview:
            return overview(database, settings)

        if watch and not as_json and sys.stdout.isatty():
            _watch(look)
            return
        found = look()
        while True:
            if as_json:
                output.json_lines([as_json_object(found)])
            else:
                output.console().print(_screen(found), crop=False)
                sys.stdout.flush()
            if not watch:
                break
            time.sleep(WATCH_SECONDS)
            found = look()
    raise typer.Exit(1 if found.problems or not verdict(found).works else 0)


def as_json_object(found: Overview) -> dict[str, Any]:
    """Return the JSON object that `--json` prints."""
    fields = {field.name: _as_json(getattr(found, field.name)) for field in dataclasses.fields(found)}
    said = dataclasses.asdict(verdict(found))
    return {"verdict": said, **fields, "problems": [one.as_json() for one in found.problems]}


def _as_json(value: Any) -> Any:
    """Return a row or a list of rows as JSON, each row as an object. Return other values as they are."""
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    return value._asdict() if hasattr(value, "_asdict") else value


def _watch(look: Callable[[], Overview]) -> None:
    from rich.live import Live  # only --watch needs this import

    with Live(_screen(look()), console=Console(highlight=False), screen=False, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(WATCH_SECONDS)
                live.update(_screen(look()), refresh=True)
        except KeyboardInterrupt:
            return


def _text(line: str, style: str = "") -> RenderableType:
    """Return a line that is wrapped only between words, so that paths can be copied."""
    return WrappedLine(output.plain(line), style)


def _verdict(found: Overview) -> RenderableType:
    """Return whether the service works, as one sentence, and the database's name."""
    said = verdict(found)
    style = "bold red" if not said.works and not said.starts else "yellow" if found.problems or said.starts else "green"
    where = f"database: {found.configuration.database}   read at {output.plain(found.at)}"
    return Group(_text(said.sentence, style), _text(where))


def _problems(found: Overview) -> list[RenderableType]:
    """Return one line for each problem and for each kind of decision that waits."""
    decisions = [one for one in found.problems if one.kind in DECISIONS]
    others = [one for one in found.problems if one.kind not in DECISIONS]
    return [_line("! ", one, found, "red") for one in others] + [_line("? ", one, found, "yellow") for one in decisions]


def _line(mark: str, problem: Problem, found: Overview, style: str) -> RenderableType:
    began = f" (began {output.ago(problem.since, found.at)})" if problem.since else ""
    return _text(f"{mark}{problem}{began}", style)


def _times(found: Overview, one: IncidentRow) -> tuple[str | None, str | None]:
    return output.ago(one.detected_at, found.at), output.ago(one.disabled_at, found.at)


def _screen(found: Overview) -> RenderableType:
    speed = found.speed
    if any(one.kind in UNREADABLE for one in found.problems):
        return Group(_verdict(found), *_problems(found))
    if speed.p50_seconds is not None:
        delays = (
            f"public to disabled, 24 h: p50 {speed.p50_seconds} s, p95 {speed.p95_seconds} s"
            f" ({counted(speed.incidents_24h, 'incident')})"
        )
    elif found.configuration.enforce == EnforceMode.DISABLE:
        delays = "public to disabled: no token that was found in public was disabled in 24 hours"
    else:
        delays = "public to disabled: nothing is disabled in the mode observe"
    ended = f"last {outcome(found.configuration.enforce)}"
    states = sorted(found.sightings.items())
    sightings = ", ".join(f"{count} {_SIGHTINGS.get(state, state)}" for state, count in states) or "none"
    parts: list[RenderableType] = [
        _text(_configuration(found)),
        _text(f"{delays}   found tokens by result: {sightings}"),
        _table("Sources (24 hours)", _SOURCE_COLUMNS, (_source_row(found, one) for one in found.sources)),
        _table(
            "Share of the pushes of other sources that each source showed too, within",
            _RECALL_COLUMNS,
            _recall_rows(found),
        ),
        _table("Budgets", ("credential", "resource", "left", "of", "full again in", "blocked"), _budget_rows(found)),
        _table("Request rates", ("credential", "resource", "allowed", "sent", "refusals", "last"), _rate_rows(found)),
        _table("Canaries", ("planted in", ended, "took", "seen by", "waits", "24 h"), _canary_rows(found)),
        _table(
            "Pushes by how likely they hold a token, 24 h",
            ("likelihood", "read", "found", "dropped", "waiting"),
            _band_rows(found),
        ),
        _table("Queues", ("kind", "state", "jobs", "oldest"), _queue_rows(found)),
        _table("Outbox", ("to", "state", "messages", "oldest queued", "next try"), _outbox_rows(found)),
    ]
    if found.rescans:
        rows = ((r.job, r.kind, r.target, r.state, r.phase, r.error) for r in found.rescans)
        parts.append(_table("Rescans", ("job", "kind", "target", "state", "at", "error"), rows))
    incident_rows = ((i.id[:8], i.hint, i.account, i.action, *_times(found, i)) for i in found.incidents)
    columns = ("incident", "token", "account", "action", "detected", "disabled")
    parts.append(_table("Last incidents", columns, incident_rows, optional=("disabled", "token")))
    spaced = [part for one in parts for part in (one, Text())]
    return Group(_verdict(found), *_problems(found), Text(), *spaced)


_SIGHTINGS = {
    SightingState.UNCHECKED.value: "not looked up yet",
    SightingState.UNKNOWN.value: "unknown to the token store",
}


def _configuration(found: Overview) -> str:
    configuration = found.configuration
    sources = ", ".join(configuration.sources) or "none"
    mails, tokens = configuration.mail_transport, configuration.token_store
    return f"mode: {configuration.enforce}   mails: {mails}   tokens: {tokens}   sources: {sources}"


_SOURCE_COLUMNS = (
    *("source", "last\nok", "lag", "polls", "seen", "scanned"),
    *("gaps", "not\nread", "failed", "dropped"),
)


def _source_row(found: Overview, one: SourceRow) -> tuple[Any, ...]:
    counts = one.since_start
    seen = next((counts[key] for key in ("events", "results", "gists", "repositories") if key in counts), None)
    scanned = next((one.scanned_24h[key] for key in ("pushes", "files", "jobs") if key in one.scanned_24h), None)
    return (
        one.source,
        (_ago(found.at, one.last_success_at) or "never") if one.is_on else "off",
        _span(one.lag_seconds),
        counts.get("polls"),
        seen,
        scanned,
        _gaps(one),
        _summed(one.unread_24h),
        _summed(one.failed_24h),
        _summed(one.dropped_24h),
    )


def _gaps(one: SourceRow) -> str | None:
    """Return one line about the events that a source missed, or None."""
    reasons = ", ".join(f"{_words(reason)}: about {number}" for reason, number in one.missed_reasons_24h.items())
    behind = one.cursor.get("seconds_behind")
    parts = [f"{one.gaps_24h} ({reasons})"] if one.gaps_24h else []
    return ", ".join([*parts, *([f"{_span(behind)} to catch up on"] if behind else [])]) or None


_GAPS = {
    "no_overlap": "events between two lists",
    "texts_no_overlap": "comments and issues between two lists",
    "not_caught_up": "pushes that the source could not catch up on",
    "over_1000_results": "pushes in search windows with more than 1,000 results",
    "index_incomplete": "pushes that GitHub's search index did not show",
    "page_fails": "gists on pages that could not be read",
}
"""Words for the events that a source missed, by reason."""


def _words(reason: str) -> str:
    return _GAPS.get(reason, reason.replace("_", " "))


_HORIZONS = {"60": "1 min", "300": "5 min", "900": "15 min", "3600": "1 h", "86400": "1 day"}
_RECALL_COLUMNS = ("source", "pushes\ncompared", *_HORIZONS.values(), "all pushes of a day")


def _recall_rows(found: Overview) -> Iterable[Sequence[Any]]:
    for row in found.sources:
        if row.recall:
            shares = [row.recall.get(seconds) for seconds in _HORIZONS]
            most = max((int(share[0]) for share in shares if share), default=0)
            total = f"{row.total[0]:,} ({row.total[1]:,} to {row.total[2]:,})" if row.total else None
            yield row.source, most, *(_percent(share) for share in shares), total


def _percent(share: Sequence[float] | None) -> str | None:
    """Return a confidence interval as text, such as "92 to 97 %", or None if there is none."""
    return None if not share else f"{100 * share[2]:.0f} to {100 * share[3]:.0f} %"


def _budget_rows(found: Overview) -> Iterable[Sequence[Any]]:
    for row in found.budgets:
        if row.limit or row.blocked_until:
            blocked = f"{row.reason} for {_until(found.at, row.blocked_until)}" if row.blocked_until else None
            left = row.remaining if row.limit else None
            full = _until(found.at, row.resets_at)
            yield row.credential, row.resource, left, row.limit or None, full, blocked


def _rate_rows(found: Overview) -> Iterable[Sequence[Any]]:
    for row in found.rates:
        allowed, sent = f"{row.per_second:g}/s", f"{row.measured_per_second:g}/s"
        yield row.credential, row.resource, allowed, sent, row.refusals, _ago(found.at, row.refused_at)


def _canary_rows(found: Overview) -> Iterable[Sequence[Any]]:
    for row in found.canaries:
        if row.off and not row.planted_at:
            continue  # `r8scan canary list` says why no canary is planted in this way
        took, waits = _span(row.seconds), _span(row.waiting_seconds)
        yield (
            ways.WORDS[CanaryWay(row.way)],
            _ago(found.at, row.ended_at),
            took,
            row.source,
            waits,
            f"{row.disabled_24h} of {row.planted_24h}",
        )


def _band_rows(found: Overview) -> Iterable[Sequence[Any]]:
    return (
        (row.band, row.read_24h, row.found_24h, row.dropped_24h, row.waiting)
        for row in found.bands
        if row.read_24h or row.dropped_24h or row.waiting
    )


def _queue_rows(found: Overview) -> Iterable[Sequence[Any]]:
    return ((row.kind, row.state, row.jobs, _span(row.oldest_seconds)) for row in found.queues)


def _outbox_rows(found: Overview) -> Iterable[Sequence[Any]]:
    for row in found.outbox:
        queued, following = output.ago(row.created_at, found.at), _next_try(found, row)
        yield words.RECIPIENTS[Channel(row.channel)], message_state(row.state), row.rows, queued, following


def _next_try(found: Overview, row: OutboxRow) -> str | None:
    if row.next_attempt_at is None:
        return None
    return "now" if row.next_attempt_at <= found.at else output.ago(row.next_attempt_at, found.at)


def _table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, optional: Sequence[str] = ()
) -> RenderableType:
    shown = output.fitted(title, columns, rows, optional=optional)
    return shown if shown.rows else _text(f"{title}: none")


def _summed(counts: Mapping[str, int]) -> str | None:
    """Return the sum and the two commonest reasons, such as "12 (too_large, timeout, …)", or None."""
    if not counts:
        return None
    common = sorted(counts, key=lambda key: -counts[key])[:2]
    names = ", ".join(key if key == "given_up" else key.partition("_")[2] for key in common)
    return f"{sum(counts.values())} ({names}{', …' if len(counts) > 2 else ''})"


def _ago(now: datetime, at: datetime | None) -> str | None:
    return None if at is None else _span((now - at).total_seconds())


def _until(now: datetime, at: datetime | None) -> str | None:
    return None if at is None or at <= now else _span((at - now).total_seconds())


def _span(seconds: float | None) -> str | None:
    return None if seconds is None else output.short_span(seconds)

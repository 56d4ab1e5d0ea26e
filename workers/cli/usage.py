"""The `r8scan usage` command, which stores records of how tokens were used."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Annotated

import typer

from scanner.compromise import networks, settling
from scanner.compromise import usage as usage_store
from scanner.compromise.lines import numbered_lines
from scanner.compromise.networks import BadNetworks, NetworkList
from scanner.compromise.usage_records import MAX_LINE_LENGTH, BadRecord, RecordReader, UsageRecord
from scanner.compromise.usage_rules import rules_of
from workers.cli import empty_store, output
from workers.cli.errors import UserError
from workers.cli.opening import opened_context
from workers.cli.streams import BadLines, opened
from workers.context import Context
from workers.health.problems import counted

BATCH = 10_000


def usage(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Records, one JSON object a line; - for stdin.")] = "-",
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Store records of how tokens were used, and apply the usage rules.

    A record is {"digest": …, "time": …, "ip": …, "country": …, "user_agent": …}. It may have `token` instead of
    `digest`. Addresses are stored as /24 or /48 networks only. Send each record only once, because every record counts.
    Exit status 1 if any line was bad; the other lines are stored.

    Example: r8scan usage access.jsonl
    """
    bad, taken, report_ids = BadLines(), 0, list[int]()
    with opened_context(creates_tables=True) as context:
        listed = _listed(context)
        with opened(file) as stream:
            lines = numbered_lines(stream, MAX_LINE_LENGTH)
            while batch := list(itertools.islice(lines, BATCH)):
                reader = RecordReader(context.settings.digester(), listed, datetime.now(UTC))
                records = _records(reader, batch, bad)
                stored = usage_store.store(context.database, usage_store.summed(records), rules_of(context.settings))
                settling.settle(
                    context.database,
                    stored.report_ids,
                    policy=context.policy,
                    per_minute=context.settings.brake_per_minute,
                )
                taken += len(records)
                report_ids += stored.report_ids
        decided = settling.decisions(context.database, report_ids)
        empty_store.warn(context.database, context.settings)
    bad.end()
    if as_json:
        output.json_lines([{"records": taken, "bad": bad.count, "bad_lines": bad.numbers, "decisions": dict(decided)}])
    else:
        detail = "".join(f", {number} {word.replace('_', ' ')}" for word, number in sorted(decided.items()))
        typer.echo(f"{counted(taken, 'record')}, {bad.count} bad{detail}")
    if bad.count:
        raise typer.Exit(1)


def _records(reader: RecordReader, batch: list[tuple[int, str | None]], bad: BadLines) -> list[UsageRecord]:
    records = []
    for number, line in batch:
        if line is None:
            bad.add(number, "is longer than a record may be")
            continue
        try:
            records.append(reader.read(line))
        except BadRecord as err:
            bad.add(number, err)
    return records


def _listed(context: Context) -> NetworkList:
    try:
        return networks.load(context.settings.usage_listed_file)
    except BadNetworks as err:
        raise UserError(f"the file of R8SCAN_USAGE_LISTED_FILE {err}") from err

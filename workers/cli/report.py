"""`r8scan report`: reports tokens that were compromised in another way than by becoming public."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import typer

from scanner.compromise import reports, settling
from scanner.compromise.reports import BadReport, NewReport, Subject
from scanner.records.database import Database
from scanner.records.states import Decision
from scanner.response.policy import Policy
from scanner.settings import Settings
from workers.cli import output
from workers.cli.errors import UserError
from workers.cli.opening import opened_context
from workers.cli.operators import operator_name
from workers.cli.streams import BadLines, opened

BATCH = 1000
DECISIONS = (
    *(Decision.DISABLED, Decision.ALREADY_DISABLED, Decision.PROTECTED),
    *(Decision.OBSERVED, Decision.UNKNOWN, Decision.HELD),
)
WORDS = (*DECISIONS, "repeated", "bad")
"""The counts, in the order in which they are printed."""


def report(
    sign: Annotated[str, typer.Option(help="What kind of sign: abuse_report, stolen_laptop, …")],
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Tokens or digests, one a line; - for stdin.")] = "-",
    note: Annotated[str, typer.Option(help="What is known, in words; kept with the incident.")] = "",
    key: Annotated[
        str, typer.Option(help="Names this report: the same key is the same report (default: the note).")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Report compromised tokens. Each is disabled at once and its owner mailed, until the disable quota is reached.

    Tokens are never read from the command line. Repeating a report does nothing, even if a token was enabled again
    since: use another --note or --key for a new report. Exit status 1 if any line was bad; the others are reported.

    Example: r8scan report stolen.txt --sign stolen_laptop --note "laptop 4711, lost on Monday"
    """
    reporter = operator_name()
    counts: Counter[str] = Counter()
    bad = BadLines()
    with opened_context() as context:
        # Check the options before reading the first line.
        _new_reports([Subject("0" * 64)], sign, note, reporter, key)
        with opened(file) as stream:
            lines = reports.read_lines(stream, context.settings.digester())
            while batch := list(itertools.islice(lines, BATCH)):
                subjects = []
                for number, line in batch:
                    if isinstance(line, Subject):
                        subjects.append(line)
                    else:
                        bad.add(number, line)
                given = _new_reports(subjects, sign, note, reporter, key)
                counts += _submit(context.database, context.settings, context.policy, given)
    bad.end()
    counts["bad"] = bad.count
    _print(counts, bad, as_json)


def _submit(database: Database, settings: Settings, policy: Policy, given: list[NewReport]) -> Counter[str]:
    ids = reports.record(database, given)
    settling.settle(database, ids, policy=policy, per_minute=settings.brake_per_minute)
    counts = settling.decisions(database, ids)
    counts["repeated"] = len(given) - len(ids)
    return counts


def _new_reports(subjects: Iterable[Subject], sign: str, note: str, reporter: str, key: str) -> list[NewReport]:
    try:
        return [reports.new_report(subject, sign=sign, note=note, reporter=reporter, key=key) for subject in subjects]
    except BadReport as err:
        raise UserError(f"the report {err}") from err


def _print(counts: Counter[str], bad: BadLines, as_json: bool) -> None:
    if as_json:
        output.json_lines([{**{word: counts[word] for word in WORDS}, "bad_lines": bad.numbers}])
    else:
        typer.echo(", ".join(f"{counts[word]} {word.replace('_', ' ')}" for word in WORDS))
    if counts[Decision.HELD]:
        typer.echo("the brake holds reports until you decide: r8scan brake status", err=True)
    if bad.count:
        raise typer.Exit(1)

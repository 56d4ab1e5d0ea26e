"""The `r8scan report` command, which reports tokens that leaked outside of public GitHub."""

from __future__ import annotations

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
from workers.cli import empty_store, output, report_input
from workers.cli.errors import WrongUsage
from workers.cli.opening import opened_context
from workers.cli.operators import operator_name
from workers.cli.report_input import DIGEST_LINE, ReportInput
from workers.health.problems import counted

DECISIONS = {
    Decision.DISABLED: "disabled now",
    Decision.DISABLING: "being disabled",
    Decision.ALREADY_DISABLED: "disabled before",
    Decision.PROTECTED: "protected, not disabled",
    Decision.OBSERVED: "not disabled because R8SCAN_ENFORCE is observe",
    Decision.HELD: "held by the brake",
    Decision.UNKNOWN: "unknown to the token store",
}
"""The words for decisions about reported tokens, in the order of printing."""
REPEATED, BAD = "repeated", "bad"


def report(
    sign: Annotated[str, typer.Option(help="The kind of evidence: abuse_report, stolen_laptop, …")],
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Any file with tokens in it; - for stdin.")] = "-",
    note: Annotated[str, typer.Option(help="A note about the evidence; kept with the incident.")] = "",
    key: Annotated[
        str, typer.Option(help="An idempotency key. A token is reported once with each key (default: the note).")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Report compromised tokens. Each is disabled at once and its owner mailed, until the disable quota is reached.

    The file may be a list of tokens or of their SHA-256 digests, one per line, or any other file, such as a log, a dump
    or an archive. r8scan finds all tokens in it, in every encoding and container that it reads. Tokens are never read
    from the command line and never printed.

    Repeating a report does nothing, even after a token was enabled again: use another --note or --key for a new report.
    Exit status: 0 all was reported, 1 no token, a bad line or an empty token store, 2 something in the file could not
    be read.

    Example: r8scan report stolen.txt --sign stolen_laptop --note "laptop 4711, lost on Monday"
    """
    reporter = operator_name()
    counts: Counter[str] = Counter()
    with opened_context(creates_tables=True) as context:
        # Check the options first, with an invented digest, because reading the file may take minutes.
        _new_reports([Subject("0" * 64)], sign, note, reporter, key)

        def take(subjects: list[Subject]) -> None:
            given = _new_reports(subjects, sign, note, reporter, key)
            counts.update(_submit(context.database, context.settings, context.policy, given))

        found = report_input.read(file, context.settings.digester(), take)
        found.bad.end()
        _print(counts, found, as_json)
        is_empty = empty_store.warn(context.database, context.settings)
    raise typer.Exit(1 if found.bad.count or not found.kinds or is_empty else 2 if found.unread else 0)


def _submit(database: Database, settings: Settings, policy: Policy, given: list[NewReport]) -> Counter[str]:
    ids = reports.record(database, given)
    settling.settle(database, ids, policy=policy, per_minute=settings.brake_per_minute)
    counts = settling.decisions(database, ids)
    counts[REPEATED] = len(given) - len(ids)
    return counts


def _new_reports(subjects: Iterable[Subject], sign: str, note: str, reporter: str, key: str) -> list[NewReport]:
    try:
        return [reports.new_report(subject, sign=sign, note=note, reporter=reporter, key=key) for subject in subjects]
    except BadReport as err:
        raise WrongUsage(f"the report {err}") from err


def _print(counts: Counter[str], found: ReportInput, as_json: bool) -> None:
    if as_json:
        numbers = {word: counts[word] for word in (*DECISIONS, REPEATED)}
        kinds = {"kinds": dict(found.kinds), "not_read": dict(found.unread)}
        output.json_lines([{**numbers, BAD: found.bad.count, "bad_lines": found.bad.numbers, **kinds}])
    else:
        typer.echo(found_text(found.kinds))
        done = [f"{number:,} {words}" for decision, words in DECISIONS.items() if (number := counts[decision])]
        done += [f"{counts[REPEATED]:,} reported before"] if counts[REPEATED] else []
        if done:
            typer.echo("; ".join(done))
    for reason, number in sorted(found.unread.items()):
        typer.echo(f"not read: {number:,} × {reason.replace('_', ' ')}", err=True)
    if counts[Decision.HELD]:
        typer.echo("the brake holds reports until you decide: r8scan brake status", err=True)


def found_text(kinds: Counter[str]) -> str:
    """Return a text such as "3 tokens found: 2 plain, 1 base64; 1 digest"."""
    encodings = {kind: number for kind, number in kinds.items() if kind != DIGEST_LINE}
    detail = ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in sorted(encodings.items()))
    tokens = f"{counted(sum(encodings.values()), 'token')} found: {detail}" if encodings else ""
    digests = counted(kinds[DIGEST_LINE], "digest") if kinds[DIGEST_LINE] else ""
    return "; ".join(part for part in (tokens, digests) if part) or "no token found"

"""The `r8scan scan` command, which searches files and git histories for tokens, offline."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """The allowed values of the option `--format`."""

    table = "table"
    json = "json"
    sarif = "sarif"


def scan(
    paths: Annotated[list[str], typer.Argument(metavar="PATH|-", help="Files, folders, repositories; - for stdin.")],
    history: Annotated[
        bool, typer.Option("--history", help="Read every object of git repositories and bundles, reachable or not.")
    ] = False,
    output_format: Annotated[Format, typer.Option("--format", help="json prints one object per line.")] = Format.table,
    known: Annotated[
        bool, typer.Option("--known", help="Ask the token store which tokens are live. This changes nothing.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Number of parallel readers.")] = 2,
) -> None:
    """Scan for tokens in every encoding and container. No folder, name or comment is ever skipped.

    Settings come from R8SCAN_* variables only, because a `.env` in a scanned folder cannot be trusted.

    Exit status: 0 clean, 1 tokens found, 2 nothing found but not everything could be read, or a wrong command line.

    Examples: r8scan scan . --history      git diff | r8scan scan -      r8scan scan app.apk --format json
    """
    # Import this only here, so that --help answers fast.
    from workers.cli import scan_output
    from workers.cli.scan_sources import scan_all

    run = scan_all(paths, history=history, jobs=jobs, progress=scan_output.progress)
    states = _states([candidate.digest for candidate in run.candidates]) if known else None
    scan_output.report(run, output_format.value, states)
    raise typer.Exit(1 if run.candidates else 2 if run.unread else 0)


def _states(digests: list[str]) -> dict[str, str]:
    """Return each token's state by the token's digest, or not_checked if the store does not answer."""
    from workers.cli import empty_store
    from workers.cli.errors import explain
    from workers.cli.opening import opened_context

    try:
        with opened_context(read_dotenv=False) as context:
            found = context.store.look_up(set(digests))
            if context.settings.token_store_url is None:
                empty_store.warn(context.database, context.settings)
    except Exception as err:
        line = explain(err)
        if line is None:
            raise
        typer.echo(f"the findings were not looked up: {line}", err=True)
        return dict.fromkeys(digests, "not_checked")
    states = {digest: "disabled" if record.disabled_at else "live" for digest, record in found.records.items()}
    states |= dict.fromkeys(found.not_checked - states.keys(), "not_checked")
    return {digest: states.get(digest, "unknown") for digest in digests}

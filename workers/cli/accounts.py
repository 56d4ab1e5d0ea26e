"""`r8scan accounts`: what is kept of an account, erased on its owner's wish."""

from __future__ import annotations

from typing import Annotated

import typer

from scanner.records import retention
from scanner.records.retention import Wanted
from workers.cli import output
from workers.cli.errors import UserError
from workers.cli.opening import opened_context
from workers.cli.operators import operator_name

app = typer.Typer(help="What is kept of an account.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A group with one command stays a group."""


@app.command()
def erase(
    name: Annotated[str, typer.Argument(help="The account's name, as the token store gives it.")] = "",
    account_id: Annotated[str, typer.Option("--id", help="Its id there instead: names may be those of several.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Erase all that is kept of an account: tokens, addresses, incidents, places, mails, reports, usage, audit.

    Refused while a token of it in our tables works. What stays is one audit entry with the counts. A token store
    behind HTTP is not asked and keeps what it keeps.

    Example: r8scan accounts erase acme-weather --yes
    """
    if bool(name) == bool(account_id):
        raise UserError("give the account's name, or --id")
    shown = output.plain(name or account_id)
    if not yes and not typer.confirm(f"Erase all that is kept of {shown}? It cannot be brought back"):
        raise UserError("nothing was erased")
    with opened_context() as context:
        wanted = Wanted(name, account_id, is_ours=context.settings.token_store_url is None)
        erased = retention.erase_account(context.database, wanted, who=operator_name())
    if as_json:
        output.json_lines([dict(erased)])
    else:
        typer.echo("erased: " + ", ".join(f"{count} {table}" for table, count in sorted(erased.items()) if count))

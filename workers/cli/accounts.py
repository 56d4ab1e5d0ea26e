"""The `r8scan accounts erase` command, which erases all data about an account."""

from __future__ import annotations

from typing import Annotated

import typer

from scanner.records import retention
from scanner.records.retention import AccountSelector
from workers.cli import output, words
from workers.cli.errors import UserError, WrongUsage
from workers.cli.groups import Group
from workers.cli.opening import opened_context
from workers.cli.operators import operator_name

NAMES = {"api_tokens": "tokens", "audit": "audit_entries"}
"""The words to print instead of the names of some database tables."""

app = Group("Erase all data about an account.")


@app.callback()
def _group() -> None:
    """Do nothing, but make typer treat `accounts` as a group."""


@app.command()
def erase(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="The account's name, as the token store gives it.")
    ] = "",
    account_id: Annotated[str, typer.Option("--id", help="Its id in the store, if its name is not unique.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Erase all data about an account: tokens, addresses, incidents, mails, reports, usage records and audit entries.

    Nothing is erased while one of the account's tokens in r8scan's own token store is live. One audit entry with the
    numbers of erased rows remains. A token store behind HTTP is not changed.

    Example: r8scan accounts erase acme-weather --yes
    """
    if bool(name) == bool(account_id):
        raise WrongUsage("give the account's name, or --id")
    shown = output.plain(name or account_id)
    if not yes and not typer.confirm(f"Erase all data about {shown}? This cannot be undone"):
        raise UserError("nothing was erased")
    with opened_context() as context:
        wanted = AccountSelector(name, account_id, is_in_our_tables=context.settings.token_store_url is None)
        erased = retention.erase_account(context.database, wanted, who=operator_name())
    if as_json:
        output.json_lines([dict(erased)])
    else:
        typer.echo(
            "erased: " + ", ".join(words.amount(table, count) for table, count in sorted(erased.items()) if count)
        )

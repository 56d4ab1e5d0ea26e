"""`r8scan accounts`: what is kept of an account, erased on its owner's wish."""

from __future__ import annotations

from typing import Annotated

import typer

from scanner.records import retention
from scanner.records.database import Database
from scanner.records.retention import NotErasable
from scanner.settings import load_settings
from workers.cli import output
from workers.cli.errors import UserError
from workers.cli.operators import operator_name

app = typer.Typer(help="What is kept of an account.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A group with one command stays a group."""


@app.command()
def erase(
    name: Annotated[str, typer.Argument(help="The account's name, as the token store gives it (or its id there).")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Erase all that is kept of an account: tokens, addresses, incidents, places, mails, reports, usage, audit.

    Refused while a token of it works. What stays is one audit entry with the counts. A token store that is not ours
    keeps what it keeps.

    Example: r8scan accounts erase acme-weather --yes
    """
    if not yes and not typer.confirm(f"Erase all that is kept of {output.plain(name)}? It cannot be brought back"):
        raise UserError("nothing was erased")
    database = Database(load_settings().database_url.get_secret_value())
    try:
        with database.write() as session:
            erased = retention.erase_account(session, name, who=operator_name())
    except NotErasable as err:
        raise UserError(str(err)) from err
    finally:
        database.close()
    if as_json:
        output.json_lines([dict(erased)])
    else:
        typer.echo("erased: " + ", ".join(f"{count} {table}" for table, count in sorted(erased.items()) if count))

"""`r8scan audit`: checks that nobody has changed the audit."""

from __future__ import annotations

import typer

from scanner.records.audit_verification import AuditBroken
from scanner.records.audit_verification import verify as verify_chain
from scanner.records.database import Database
from scanner.settings import load_settings
from workers.cli.errors import UserError
from workers.cli.groups import Group
from workers.health.problems import counted

app = Group("The audit: who did what, and on what evidence.")


@app.callback()
def _group() -> None:
    """Keep the group a group, although it has only one command."""


@app.command()
def verify() -> None:
    """Check the hash chain of the audit. An entry that was changed, removed, inserted or moved breaks it.

    Exit status 1 and one line name the broken entry. Store the last hash elsewhere: somebody with write access to the
    database can compute the whole chain again, and only that hash shows it.

    Example: r8scan audit verify
    """
    database = Database(load_settings().database_url.get_secret_value())
    try:
        found = verify_chain(database)
    except AuditBroken as err:
        raise UserError(str(err)) from err
    finally:
        database.close()
    typer.echo(
        f"{counted(found.entries, 'entry is as it was written', 'entries are as they were written')} "
        f"({found.purged} purged by age, {found.removed} removed with an account's data); "
        f"entry {found.last_id} is the last, with hash {found.last_hash}"
    )

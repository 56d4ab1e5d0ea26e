"""The `r8scan tokens` commands, which manage the tokens in r8scan's own token store (an SQL table)."""

from __future__ import annotations

import getpass
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.compromise import reports
from scanner.records import audit
from scanner.records.database import Database
from scanner.records.models import Account, ApiToken, db_now
from scanner.response import operator_actions, sightings
from scanner.settings import Settings
from scanner.tokens import sql
from scanner.tokens.imports import BadRow, ImportedToken, read_rows, token_of
from scanner.tokens.protocol import TokenRecord
from scanner.tokens.registry import ImportRun
from workers.cli import empty_lists, output
from workers.cli.errors import UserError, WrongUsage, wrong_filter
from workers.cli.groups import Group
from workers.cli.opening import opened_context
from workers.cli.operators import operator_name
from workers.context import Context
from workers.health.problems import counted

BATCH = 1000
BAD_ROWS_SHOWN = 100
LISTED = 100
"""The number of tokens that `list` shows by default."""


class TokenState(StrEnum):
    """The allowed values of the option `--state`. Protected tokens are either live or disabled."""

    live = "live"
    disabled = "disabled"
    protected = "protected"


app = Group("Manage the tokens of the SQL token store, which holds only their digests.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


@contextmanager
def _sql_store(*, creates_tables: bool = False) -> Iterator[Context]:
    """Yield the context. Raise UserError unless the token store is r8scan's own SQL table."""
    with opened_context(creates_tables=creates_tables) as context:
        if context.settings.token_store_url is not None:
            raise UserError(f"the tokens are in the store at {context.settings.token_store_url}: change them there")
        yield context


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="CSV or JSON lines; - for standard input.")],
) -> None:
    """Import tokens with their owners. The columns are email, account, name, and token (or sha256 instead).

    If a token was imported before, its name and owner are updated. A disabled token stays disabled. Several addresses
    in email are separated by semicolons. Exit status 1 if any row was bad; the other rows are imported.

    Example: r8scan tokens import tokens.csv
    """
    with _sql_store(creates_tables=True) as context, _opened(file) as (stream, size):
        good, bad = _import_all(context.database, stream, context.settings, size)
        with context.database.write() as session:
            rechecked = sightings.make_due_after_import(session)
            reports.make_due_after_import(session)
            evidence = {"rows": good, "bad_rows": bad, "sightings_to_look_up": rechecked}
            audit.record(session, "tokens_imported", evidence, who=operator_name())
    typer.echo(f"{good} imported, {bad} bad", err=bool(bad))
    if rechecked:
        typer.echo(f"{counted(rechecked, 'earlier sighting')} of these tokens will be looked up now")
    if bad:
        raise typer.Exit(1)


def _import_all(database: Database, stream: TextIO, settings: Settings, size: int | None) -> tuple[int, int]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    run, good, bad = ImportRun.begin(), 0, 0
    rows = read_rows(stream, settings.digester())
    counts = TextColumn("{task.fields[good]} rows, {task.fields[bad]} bad")
    columns = (SpinnerColumn(), BarColumn(), counts, TimeRemainingColumn())
    console = output.errors()
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as progress:
        task = progress.add_task("", total=size, good=0, bad=0)
        while batch := list(itertools.islice(rows, BATCH)):
            tokens: list[ImportedToken] = []
            for number, row in batch:
                if isinstance(row, BadRow):
                    bad += 1
                    if bad <= BAD_ROWS_SHOWN:
                        progress.console.print(f"line {number} {row}", markup=False, soft_wrap=True)
                else:
                    tokens.append(row)
            if tokens:
                with database.write() as session:
                    run.write(session, tokens)
            good += len(tokens)
            progress.update(task, completed=stream.buffer.tell() if size else 0, good=good, bad=bad)
    if bad > BAD_ROWS_SHOWN:
        typer.echo(f"… and {bad - BAD_ROWS_SHOWN} more bad rows", err=True)
    return good, bad


@app.command()
def add(
    email: Annotated[str, typer.Option(help="The owner's mail address; several by ;.")] = "",
    account: Annotated[str, typer.Option(help="The vendor's name of the account (default: the address).")] = "",
    name: Annotated[str, typer.Option(help="The token's name, as its owner knows it.")] = "",
) -> None:
    """Add one token, read from a prompt or standard input, never from the command line.

    Example: r8scan tokens add --email ana@example.com --name ci
    """
    given = getpass.getpass("Token (not shown): ") if sys.stdin.isatty() else sys.stdin.readline(200)
    raw = given.strip()
    with _sql_store(creates_tables=True) as context:
        fields = {"token": raw, "email": email, "account": account, "name": name}
        try:
            token = token_of(fields, context.settings.digester())
        except BadRow as err:
            detail = f"it {err}" if str(err).startswith("has ") else str(err)
            raise UserError(f"the token cannot be added: {detail}") from err
        with context.database.write() as session:
            ImportRun.begin().write(session, [token])
            sightings.make_due_after_import(session)
            reports.make_due_after_import(session)
            audit.record(session, "token_added", {"digest": token.digest}, who=operator_name())
    typer.echo(f"added {token.hint}  {token.digest}")


@app.command("list")
def list_(
    as_json: JsonOption = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="The maximum number of rows, newest first (default: 100, or all with --json)."),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="List all tokens.")] = False,
    state: Annotated[TokenState | None, typer.Option(help="The state of the tokens.")] = None,
    account: Annotated[str, typer.Option(help="The account's name.")] = "",
    search: Annotated[str, typer.Option("--search", "-q", help="A digest, or the beginning of a hint or name.")] = "",
) -> None:
    """List the tokens of the store, the newest first.

    Example: r8scan tokens list --json --state disabled | jq -r .sha256
    """
    from workers.web.console.queries.incidents import BadFilter
    from workers.web.console.queries.lists import token_conditions

    most = None if show_all or (as_json and limit is None) else limit or LISTED
    with _sql_store() as context, context.database.read() as session:
        try:
            wanted = token_conditions({"state": state or "", "account": account, "q": search})
        except BadFilter as err:
            raise wrong_filter(err) from err
        records = itertools.islice(sql.listed(session, *wanted), most)
        if as_json:
            output.json_lines(_json(record) for record in records)
            return
        now = session.execute(select(db_now())).scalar_one()
        rows = [_cells(record, now) for record in records]
        columns = ("token", "name", "account", "mail", "state", "digest")
        none = "" if rows else _none(session, context.settings, account, is_filtered=bool(wanted))
        output.table("Tokens", columns, rows, empty=none, optional=("digest", "mail", "name"))
        if most is not None and len(rows) == most:
            total = session.execute(select(func.count()).select_from(ApiToken).where(*wanted)).scalar_one()
            if total > len(rows):
                output.errors().print(f"{len(rows):,} of {total:,} shown: --all shows all", markup=False)


def _none(session: Session, settings: Settings, account: str, *, is_filtered: bool) -> str:
    if not is_filtered:
        return empty_lists.sentence("tokens", settings, "Import them: r8scan tokens import FILE")
    return empty_lists.sentence(
        "tokens of this kind", settings, empty_lists.hint(session, "--account", account.strip(), Account.name)
    )


@app.command()
def disable(
    token_id: Annotated[
        str, typer.Argument(metavar="[TOKEN_ID]", help="The token's id, as `list --json` shows it.")
    ] = "",
    sha256: Annotated[str, typer.Option(help="Its digest instead, in hex.")] = "",
) -> None:
    """Disable one token. Its owner gets no mail.

    Example: r8scan tokens disable --sha256 9f86d081…
    """
    _require_one(token_id, sha256)
    with _sql_store() as context, context.database.write() as session:
        token = _wanted(session, token_id, sha256)
        done = operator_actions.disable_token(session, token, context.policy, who=operator_name())
    typer.echo(f"disabled {token.digest}" if done else f"was disabled already: {token.digest}")


@app.command()
def enable(
    reason: Annotated[str, typer.Option(help="The reason, for the audit.")],
    token_id: Annotated[
        str, typer.Argument(metavar="[TOKEN_ID]", help="The token's id, as `list --json` shows it.")
    ] = "",
    sha256: Annotated[str, typer.Option(help="Its digest instead, in hex.")] = "",
) -> None:
    """Enable a disabled token again. r8scan disables it again only if it is found in a new place or reported anew.

    Example: r8scan tokens enable 42 --reason "a test token, meant to be public"
    """
    _require_one(token_id, sha256)
    with _sql_store() as context, context.database.write() as session:
        token = _wanted(session, token_id, sha256)
        done = operator_actions.enable_token(session, token.digest, who=operator_name(), reason=reason)
    typer.echo(f"works again: {token.digest}" if done else f"was not disabled: {token.digest}")


@app.command()
def protect(
    token_id: Annotated[
        str, typer.Argument(metavar="[TOKEN_ID]", help="The token's id, as `list --json` shows it.")
    ] = "",
    sha256: Annotated[str, typer.Option(help="Its digest instead, in hex.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Remove the protection.")] = False,
) -> None:
    """Protect a token: if it is found, notify the operator instead of disabling it.

    Example: r8scan tokens protect 42
    """
    _require_one(token_id, sha256)
    with _sql_store() as context, context.database.write() as session:
        token = _wanted(session, token_id, sha256)
        operator_actions.protect_token(session, token.digest, protected=not off, who=operator_name())
    typer.echo(f"{'no longer protected' if off else 'protected'}: {token.digest}")


def _require_one(token_id: str, sha256: str) -> None:
    if bool(token_id) == bool(sha256):
        raise WrongUsage("give either the token's id or --sha256 HEX")


def _wanted(session: Any, token_id: str, sha256: str) -> TokenRecord:
    digest = sha256.lower() if sha256 else sql.digest_of_id(session, token_id)
    found = sql.look_up(session, [digest], lock=True) if digest else {}
    if digest not in found:
        raise UserError("the store has no such token: see r8scan tokens list --json")
    return found[digest]


def _cells(record: TokenRecord, now: datetime) -> tuple[Any, ...]:
    mail = ", ".join(record.recipients)
    return record.hint or None, record.name, record.account_name, mail, _state(record, now), record.digest[:16]


def _state(record: TokenRecord, now: datetime) -> str:
    if record.disabled_at:
        return f"disabled {output.ago(record.disabled_at, now)}"
    return "protected" if record.is_protected else "live"


def _json(record: TokenRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "sha256": record.digest,
        "hint": record.hint,
        "name": record.name,
        "account": record.account_name,
        "email": ";".join(record.recipients) or None,
        "created_at": record.created_at,
        "last_used_at": record.last_used_at,
        "disabled_at": record.disabled_at,
        "disabled_reason": record.disabled_reason,
        "protected": record.is_protected,
    }


@contextmanager
def _opened(file: str) -> Iterator[tuple[TextIO, int | None]]:
    if file == "-":
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")  # type: ignore[union-attr]
        yield sys.stdin, None
        return
    path = Path(file)
    try:
        stream = path.open(encoding="utf-8", errors="surrogateescape", newline="")
        size = path.stat().st_size
    except OSError as err:
        raise UserError(f"cannot read {file} ({err.strerror}): give its name, or - for standard input") from err
    with stream:
        yield stream, size

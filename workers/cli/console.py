"""The `r8scan console` commands, which manage the users and sessions of the web console."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from scanner.records.states import Role
from workers.cli import empty_lists, output
from workers.cli.errors import UserError
from workers.cli.groups import Group
from workers.cli.opening import opened_context
from workers.cli.operators import operator_name
from workers.health.problems import counted

app = Group("Manage who may sign in to the console.")
user_app = Group("Manage the users who sign in with a password.")
app.add_typer(user_app, name="user")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The person's name, as the audit will record it.")]
RoleOption = Annotated[Role, typer.Option(help="A viewer reads every page; an operator also decides.")]


@user_app.command()
def add(name: NameArgument, role: RoleOption = Role.VIEWER) -> None:
    """Add a user who may sign in to the console.

    The password is read from a prompt or from standard input, never from the command line.

    Example: r8scan console user add ana --role operator
    """
    from workers.web.console import users

    with _known_errors():
        folded = users.folded_name(name)
        password_hash = users.hash_password(_password())
        with opened_context(creates_tables=True) as context, context.database.write() as session:
            users.add(session, folded, password_hash, role, who=operator_name())
    typer.echo(f"{folded} may sign in as {role}")


@user_app.command()
def password(name: NameArgument) -> None:
    """Set a user's password, and end the user's sessions.

    Example: r8scan console user password ana
    """
    from workers.web.console import users

    with _known_errors():
        password_hash = users.hash_password(_password())
        with opened_context() as context, context.database.write() as session:
            users.change(session, name, password_hash=password_hash, who=operator_name())
    typer.echo("the password was changed; the sessions have ended")


@user_app.command()
def role(name: NameArgument, role: Annotated[Role, typer.Argument(metavar="ROLE", help="viewer or operator")]) -> None:
    """Change a user's role, and end the user's sessions.

    Example: r8scan console user role ana operator
    """
    from workers.web.console import users

    with _known_errors(), opened_context() as context, context.database.write() as session:
        users.change(session, name, role=role, who=operator_name())
    typer.echo(f"{name} has the role {role} from the next sign-in on")


@user_app.command()
def remove(name: NameArgument) -> None:
    """Remove a user, and end the user's sessions. The user can no longer sign in to the console.

    Example: r8scan console user remove ana
    """
    from workers.web.console import users

    with _known_errors(), opened_context() as context, context.database.write() as session:
        users.remove(session, name, who=operator_name())
    typer.echo(f"{name} can no longer sign in; the sessions have ended")


@user_app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False) -> None:
    """List the users who may sign in with a password.

    Example: r8scan console user list
    """
    from workers.web.console import users

    with opened_context() as context, context.database.read() as session:
        found = users.listed(session)
    if as_json:
        output.json_lines({"name": one.name, "role": one.role, "created_at": one.created_at} for one in found)
        return
    rows = ((one.name, one.role, one.created_at) for one in found)
    none = empty_lists.sentence("users", context.settings, "Add one: r8scan console user add NAME")
    output.table("Users", ("name", "role", "added"), rows, empty=none)


@app.command("sign-out")
def sign_out(name: Annotated[str, typer.Argument(metavar="NAME", help="The person's name.")]) -> None:
    """End all sessions of a person.

    Example: r8scan console sign-out ana
    """
    from scanner.records import audit
    from workers.web.console import users

    with opened_context() as context, context.database.write() as session:
        number = users.end_sessions(session, name.strip()) or users.end_sessions(session, name.strip().lower())
        audit.record(session, "console_sessions_ended", {"user": name, "sessions": number}, who=operator_name())
    ended = f"{counted(number, 'session')} ended" if number else f"{name} has no session: r8scan audit list --what"
    typer.echo(output.plain(ended if number else f"{ended} console_signed_in names who has signed in"))


@app.command("hash")
def hash_() -> None:
    """Print the hash of a password. If R8SCAN_CONSOLE_PASSWORD_HASH is this hash, the user `operator` can sign in.

    Example: r8scan console hash
    """
    from workers.web.console import users

    with _known_errors():
        typer.echo(users.hash_password(_password()))


def _password() -> str:
    """Return a password that the user types twice, or that is read once from standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline(1000).rstrip("\r\n")
    given = getpass.getpass("Password (not shown): ")
    if getpass.getpass("Once more: ") != given:
        raise UserError("the two passwords differ: nothing was changed")
    return given


@contextmanager
def _known_errors() -> Iterator[None]:
    """Convert a BadUser exception in the `with` block into a UserError."""
    from workers.web.console.users import BadUser

    try:
        yield
    except BadUser as err:
        raise UserError(str(err)) from err

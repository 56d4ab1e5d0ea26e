"""The `r8scan email` commands: write previews of mails, check custom templates, record bounces, send a test mail."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from notifications import bouncing
from notifications.email.bounces import MAX_BYTES, NotABounce, read_bounce
from notifications.email.render import MailIdentity, compose, reason_of, render_strictly
from notifications.email.samples import samples
from scanner.records.database import is_unavailable
from scanner.settings.checks import check_email
from workers.cli import output
from workers.cli.errors import UserError, WrongUsage, explain
from workers.cli.groups import Group
from workers.cli.opening import opened_context
from workers.health.machine import mail_transport

app = Group("Preview and test the mails, and record bounces.")

RECIPIENT = "owner@example.com"
TEMPORARY_FAILURE = 75
"""The exit status EX_TEMPFAIL of sysexits.h, which makes a mail server try again later."""


def _identity() -> MailIdentity:
    with opened_context() as context:
        folder = context.settings.email_templates_dir
        if folder is not None and not folder.is_dir():
            until = "until then, the built-in templates are used"
            raise UserError(f"R8SCAN_EMAIL_TEMPLATES_DIR: {folder} is not a folder: correct it; {until}")
        return context.identity


@app.command()
def test(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The recipient's address.")],
) -> None:
    """Send one test mail now with the current settings, and say whether the mail server accepted it.

    Example: r8scan email test me@vendor.example
    """
    from notifications.operator_channels import OperatorNotNotified, send_mail

    try:
        check_email(address)
    except ValueError as err:
        raise WrongUsage(f"ADDRESS {err}") from err
    with opened_context() as context:
        text = "This is a test of r8scan's mail settings. Nothing has happened, and nothing has to be done.\n"
        try:
            send_mail(context.transport, context.identity, address, "r8scan: test of the mail settings", text)
        except OperatorNotNotified as err:
            raise UserError(f"{err}: check R8SCAN_SMTP_URL and R8SCAN_EMAIL_FROM") from err
        where = mail_transport(context.settings)
    if where.startswith("Maildir"):
        typer.echo(f"written into {where}: set R8SCAN_SMTP_URL to send mails by a mail server")
    else:
        typer.echo(f"{where} has accepted the mail for {address}")


@app.command()
def preview(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to write. Created if it does not exist.", file_okay=False)
    ],
) -> None:
    """Write every kind of mail with invented facts: as text, as HTML, and as a whole message.

    You can then open the .html files in a browser. Example: r8scan email preview /tmp/mails
    """
    identity = _identity()
    names = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, facts in samples():
            rendered = render_strictly(facts, identity)
            message = compose(
                rendered,
                identity,
                recipient=RECIPIENT,
                message_id=f"<{name}@preview.invalid>",
                date=datetime.now(UTC),
                incident_ids=facts.incident_ids,
            )
            (folder / f"{name}.txt").write_text(f"Subject: {rendered.subject}\n\n{rendered.text}", encoding="utf-8")
            html = identity.logo.inlined(rendered.html) if identity.logo else rendered.html
            (folder / f"{name}.html").write_text(html, encoding="utf-8")
            (folder / f"{name}.eml").write_bytes(message.as_bytes())
            names.append(name)
    except OSError as err:
        raise UserError(
            f"cannot write the previews: {err.strerror or err} ({err.filename or folder}): name another folder"
        ) from err
    except Exception as err:
        raise UserError(f"a template fails: {reason_of(err)}; see `r8scan email check`") from err
    typer.echo(f"{len(names)} kinds of mail, each as .txt, .html and .eml, in {folder}")


@app.command()
def check() -> None:
    """Render every kind of mail with your custom templates. Exit status 1 if one fails.

    Example: R8SCAN_EMAIL_TEMPLATES_DIR=/etc/r8scan/templates r8scan email check
    """
    identity = _identity()
    bad = 0
    names = []
    for name, facts in samples():
        names.append(name)
        try:
            render_strictly(facts, identity)
        except Exception as err:  # noqa: BLE001 - a template may raise anything, and each error is reported
            bad += 1
            typer.echo(f"{name}: {reason_of(err)}", err=True)
    where = f"with the templates in {identity.template_dir}" if identity.template_dir else "with the built-in templates"
    if bad:
        raise UserError(
            f"{bad} of {len(names)} kinds of mail cannot be rendered {where}: the built-in templates are used instead"
        )
    typer.echo(f"all {len(names)} kinds of mail can be rendered {where}")


@app.command()
def bounced(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The notification; - for stdin.")] = "-",
) -> None:
    """Read a mail server's bounce, and record that a mail was not delivered. If the mail was for the owner of a token,
    notify the operator.

    The input is one delivery status notification of at most 1 MB, as a mail server pipes it into a command. Exit
    status: 0 the failure was recorded, or there was nothing to record; 1 the input is not such a notification, or is
    about a mail that r8scan did not send; 75 try again later.

    Example, in /etc/aliases: r8scan-bounces: "|/usr/local/bin/r8scan email bounced -"
    """
    content = _content(file)
    try:
        with opened_context() as context:
            bounce = read_bounce(content)
            outcome = bouncing.record(context.database, bounce, context.identity)
    except NotABounce as err:
        raise UserError(f"not recorded: {err}") from err
    except Exception as err:
        # A UserError means that the database does not exist yet, so the mail server should try again later.
        if not (is_unavailable(err) or isinstance(err, UserError)):
            raise
        typer.echo(f"r8scan: {explain(err)}", err=True)
        raise typer.Exit(TEMPORARY_FAILURE) from None
    if outcome is bouncing.BounceOutcome.UNKNOWN:
        raise UserError(f"{outcome.value}: {output.plain(bounce.message_id)}")
    typer.echo(f"{bounce.message_id}: {outcome.value}")
    if outcome is bouncing.BounceOutcome.EARLY:
        raise typer.Exit(TEMPORARY_FAILURE)


def _content(file: str) -> bytes:
    """Return at most MAX_BYTES + 1 bytes of the file. The file "-" is standard input."""
    if file == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        with Path(file).open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as err:
        raise UserError(f"cannot read {file} ({err.strerror}): give its name, or - for standard input") from err

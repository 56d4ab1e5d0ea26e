"""`r8scan email`: what the mails look like, and whether an operator's own templates are in order. Sends nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from notifications.email.render import MailIdentity, compose, reason_of, render_strictly
from notifications.email.samples import samples
from scanner.settings import load_settings
from workers.cli.errors import UserError
from workers.context import Context

app = typer.Typer(help="What the mails look like, and whether own templates are in order.", no_args_is_help=True)

RECIPIENT = "owner@example.com"


def _identity() -> MailIdentity:
    return Context(load_settings()).identity


@app.command()
def preview(
    folder: Annotated[Path, typer.Argument(help="Where to write; made when it does not exist.", file_okay=False)],
) -> None:
    """Write every kind of mail, with invented facts, as text, HTML and message: open the .html in a browser.

    Example: r8scan email preview /tmp/mails
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
        raise UserError(f"cannot write the previews: {err.strerror or err} ({err.filename or folder})") from err
    except Exception as err:
        raise UserError(f"a template fails: {reason_of(err)}; see `r8scan email check`") from err
    typer.echo(f"{len(names)} kinds of mail, each as .txt, .html and .eml, in {folder}")


@app.command()
def check() -> None:
    """Render every kind of mail with your own templates; exit status 1 if one fails.

    Example: R8SCAN_EMAIL_TEMPLATES_DIR=/etc/r8scan/templates r8scan email check
    """
    identity = _identity()
    bad = 0
    names = []
    for name, facts in samples():
        names.append(name)
        try:
            render_strictly(facts, identity)
        except Exception as err:  # noqa: BLE001 - a template may raise whatever it likes; each is reported
            bad += 1
            typer.echo(f"{name}: {reason_of(err)}", err=True)
    where = f"with the templates in {identity.template_dir}" if identity.template_dir else "with the built-in templates"
    if bad:
        raise UserError(
            f"{bad} of {len(names)} kinds of mail cannot be made {where}: the built-in ones are used instead"
        )
    typer.echo(f"all {len(names)} kinds of mail can be made {where}")

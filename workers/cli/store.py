"""The `r8scan store` commands, which check a token store's HTTP API and run a reference store."""

from __future__ import annotations

import re
import secrets
import ssl
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from scanner.settings import load_settings
from scanner.tokens import conformance
from scanner.tokens.http import tls_context
from workers.cli import output
from workers.cli.errors import UserError, WrongUsage
from workers.cli.groups import Group
from workers.health.problems import counted

app = Group("Check a token store behind HTTP, or run a reference store.")


@app.command()
def check(
    url: Annotated[str, typer.Argument(metavar="[URL]", help="The store's URL; default: R8SCAN_TOKEN_STORE_URL.")] = "",
    secret_file: Annotated[Path | None, typer.Option(help="The file that holds the bearer secret.")] = None,
    digest: Annotated[str, typer.Option(help="The digest of a token that the store knows.")] = "",
    disable: Annotated[bool, typer.Option("--disable", help="Also check disabling, by disabling that token.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each rule.")] = False,
) -> None:
    """Check a token store against the API contract, rule by rule (docs/token-store-openapi.yaml).

    Without --digest, the command checks only rules that need no token. With --disable, it disables the token of
    --digest permanently. Exit status: 0 the store obeys all rules, 1 it breaks some.

    Example: r8scan store check https://tokens.internal.example --secret-file secret --digest 9f86d081… --disable
    """
    settings = load_settings()
    address = _address(url) if url else settings.token_store_url
    if not address:
        raise WrongUsage("give the store's address, or set R8SCAN_TOKEN_STORE_URL")
    if disable and not digest:
        raise WrongUsage("--disable needs --digest: which token may be disabled?")
    known = _digest(digest) if digest else None
    secret = settings.token_store_secret.get_secret_value() if settings.token_store_secret else None
    try:
        if secret_file is not None:
            secret = secret_file.read_text(encoding="utf-8").strip()
        ca_file = settings.token_store_ca_file
        tls = tls_context(settings.token_store_cert_file, settings.token_store_key_file, ca_file)
        has_certificate = settings.token_store_cert_file is not None
        stranger_tls = tls_context(None, None, ca_file) or ssl.create_default_context() if has_certificate else None
    except (OSError, UnicodeDecodeError) as err:
        file = getattr(err, "filename", None) or secret_file or "a file of the certificates"
        reason = getattr(err, "strerror", None) or err
        raise UserError(f"{file} cannot be read ({reason}): correct the name, or make it readable for you") from err
    broken = 0
    for rule in conformance.check(
        address, secret, known=known, may_disable=disable, tls=tls, stranger_tls=stranger_tls
    ):
        broken += not rule.is_kept
        if as_json:
            output.json_lines([asdict(rule)])
        else:
            word = "ok    " if rule.is_kept else "BROKEN"
            typer.echo(f"{word}  {rule.name}" + (f": {rule.advice}" if rule.advice else ""))
    if not as_json:
        typer.echo("the store obeys every rule" if not broken else f"{counted(broken, 'rule is', 'rules are')} broken")
    raise typer.Exit(1 if broken else 0)


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as err:
        raise WrongUsage(f"{url} is no address ({err})") from err
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WrongUsage(f"{url} is no address of a store: write http://… or https://…")
    return url


def _digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise WrongUsage("--digest must be 64 hex digits: the digest of a token, never the token itself")
    return text.lower()


@app.command()
def reference(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen on loopback.")] = 8099,
    secret: Annotated[str, typer.Option(help="The bearer secret of the store (default: a random one).")] = "",
    digest: Annotated[list[str] | None, typer.Option(help="A digest that the store knows; may be repeated.")] = None,
) -> None:
    """Run a small token store in memory, on loopback, to try `r8scan store check`.

    Example: r8scan store reference --port 8099 --digest 9f86d081…
    """
    import uvicorn

    from workers.sandbox.token_store import ReferenceStore, application

    store = ReferenceStore(secret or secrets.token_urlsafe(16))
    for one in digest or ():
        store.add(one.lower())
    typer.echo(f"a token store on http://127.0.0.1:{port}, secret {store.secret}; Ctrl-C stops", err=True)
    uvicorn.run(application(store), host="127.0.0.1", port=port, log_config=None, lifespan="off")

"""The `r8scan settings` command, which shows each setting and where its value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from pydantic import SecretStr

from scanner.settings import PREFIX, SECRETS, Settings, dotenv_names, load_settings
from scanner.settings.names import origin
from workers.cli import output

URLS = ("database_url", "redis_url", "smtp_url", "announce_redis_url")
"""The secret settings that are URLs. Only their password and query are masked."""


def settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="Omit settings that have their default.")] = False,
) -> None:
    """Show every setting with the value in effect and where it comes from. Secrets are masked.

    Example: r8scan settings --changed
    """
    loaded = load_settings()
    listed = [one for one in described(loaded) if not changed or one.origin != "default"]
    if as_json:
        output.json_lines({"setting": one.name, "value": one.value, "from": one.origin} for one in listed)
    else:
        rows = ((one.name, one.value, one.origin) for one in listed)
        output.table("Settings", ("setting", "value", "from"), rows, empty="every setting has its default")


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting without secrets. `origin` says where its value comes from, such as an environment variable."""

    name: str
    value: str
    origin: str


def described(loaded: Settings) -> Iterator[ShownSetting]:
    """Yield all settings as `r8scan settings` prints them."""
    # A secret that is set but empty counts as not set.
    secrets = {f"{PREFIX}{secret}" for secret in SECRETS}
    environment = {name.upper() for name, value in os.environ.items() if value or name.upper() not in secrets}
    dotenv = dotenv_names()
    for field in Settings.model_fields:
        name = f"{PREFIX}{field.upper()}"
        is_secret = field.upper() in SECRETS
        place = origin(name, environment, dotenv, has_file=is_secret)
        yield ShownSetting(name, shown(field, getattr(loaded, field)), place)


def shown(field: str, value: Any) -> str:
    """Return a setting's value as text, with secrets masked."""
    if value is None:
        return "-"
    if isinstance(value, SecretStr) and not value.get_secret_value():
        return "(empty)"
    if isinstance(value, SecretStr):
        return masked_url(value.get_secret_value()) if field in URLS else "(secret)"
    if isinstance(value, tuple):
        return ("; " if field == "search_queries" else ",").join(map(str, value)) or "(none)"
    return str(value)


def masked_url(url: str) -> str:
    """Return the URL with its password and query replaced by ***."""
    parts = urlsplit(url)
    if not parts.scheme:
        return url
    name, _, host = parts.netloc.rpartition("@")
    user = name.partition(":")[0]
    place = f"{user}:***@{host}" if ":" in name else f"{user}@{host}" if name else host
    return f"{parts.scheme}://{place}{parts.path}" + ("?***" if parts.query else "")

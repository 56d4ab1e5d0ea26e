"""Loads the settings at the start of a process, and checks `.env` and the names of variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError

from scanner import private_folders
from scanner.detection.patterns.token_formats import use_formats
from scanner.private_folders import NotOurs
from scanner.settings.errors import SettingsError, one_line, reason
from scanner.settings.fields import Settings
from scanner.settings.names import PREFIX, SECRETS, misspelt

DOTENV = ".env"
MAX_DOTENV_BYTES = 1024 * 1024
EXPORTED = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables of OpenSSL that also take effect if they are set in `.env`, so that every command trusts the same
authorities.
"""


def load_settings(*, read_dotenv: bool = True, use_state: bool = True, **overrides: Any) -> Settings:
    """Read and return the settings. Set up their token formats, and make the state folder private.

    Args:
        read_dotenv: Whether to read `.env` of the working folder, which must be trusted.
        overrides: Values that take precedence over all other sources.

    Raises:
        SettingsError: A setting is wrong or misspelt, or another user can write to `.env` or owns the state folder.
    """
    try:
        dotenv = _dotenv() if read_dotenv else None
        in_file = dotenv_values(dotenv) if dotenv else {}
        _check_names(in_file)
        settings = Settings(_env_file=dotenv, **overrides)  # type: ignore[call-arg]  # pydantic-settings takes it
    except ValidationError as err:
        raise SettingsError(one_line(err)) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{DOTENV} is not UTF-8: write it again, or remove it") from None
    for name in EXPORTED:
        if value := in_file.get(name):
            os.environ.setdefault(name, value)
    if use_state:
        try:
            private_folders.make_private(settings.state_dir)
        except (NotOurs, OSError) as err:
            where = "" if isinstance(err, NotOurs) else f"{settings.state_dir}: "
            raise SettingsError(f"{PREFIX}STATE_DIR: {where}{reason(err)}; name a folder of your own") from err
    use_formats(settings.token_formats)
    return settings


def dotenv_names() -> set[str]:
    """Return the names of the variables in the working folder's `.env`, in capitals."""
    path = _dotenv()
    return {name.upper() for name in dotenv_values(path)} if path else set()


def _check_names(in_file: Mapping[str, str | None]) -> None:
    """Check that all variables with the prefix of settings are known settings."""
    fields = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    known = fields | {f"{PREFIX}{name}_FILE" for name in SECRETS}
    names = {*os.environ, *in_file}
    if (problem := misspelt(names, sorted(known), PREFIX)) is not None:
        raise SettingsError(problem)


def _dotenv() -> Path | None:
    """Return the path of the working folder's `.env`, or None if there is none."""
    path = Path(DOTENV)
    try:
        if not path.exists():
            return None
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no regular file"
            raise SettingsError(f"{path.absolute()} is not read, because it is {what}: rename it, or remove it")
        target = path.resolve()
        for looked_at in dict.fromkeys((Path.cwd(), target.parent, target)):
            private_folders.check_trusted(looked_at)
        if target.stat().st_size > MAX_DOTENV_BYTES:
            raise SettingsError(f"{path.absolute()} is not read: it is larger than {MAX_DOTENV_BYTES} bytes")
        target.open("rb").close()
    except (NotOurs, OSError) as err:
        raise SettingsError(
            f"{path.absolute()} is not read: {reason(err)}; make file and folder your own with mode go-w, "
            "or start r8scan in another folder"
        ) from err
    return target

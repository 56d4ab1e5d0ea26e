"""Secrets from files: R8SCAN_X_FILE contains the name of a file whose content is the value of R8SCAN_X."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic_settings import PydanticBaseSettingsSource

from scanner.settings.errors import SettingsError, reason
from scanner.settings.names import PREFIX, SECRETS


def with_files(source: PydanticBaseSettingsSource) -> PydanticBaseSettingsSource:
    """Return the source of settings. Set each secret R8SCAN_X from the file R8SCAN_X_FILE, unless R8SCAN_X is set."""
    env_vars: dict[str, str | None] = dict(getattr(source, "env_vars", {}))
    names = {name.upper(): name for name in env_vars}
    for secret in SECRETS:
        wanted, file_name = f"{PREFIX}{secret}".upper(), f"{PREFIX}{secret}_FILE".upper()
        path = env_vars.get(names.get(file_name, ""))
        if wanted not in names and path:
            try:
                env_vars[wanted.lower()] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as err:
                raise SettingsError(f"{file_name}: cannot read {path} ({reason(err)})") from err
    source.env_vars = env_vars  # type: ignore[attr-defined]  # both sources that get here have it
    return source


def with_plain_token(source: PydanticBaseSettingsSource) -> PydanticBaseSettingsSource:
    """Return the source of settings. If R8SCAN_GITHUB_TOKEN is not set, set it to the value of GITHUB_TOKEN.

    Call this only for the last source, so that an R8SCAN_GITHUB_TOKEN in any source takes precedence.
    """
    env_vars: dict[str, str | None] = getattr(source, "env_vars", {})
    prefixed = f"{PREFIX}GITHUB_TOKEN".lower()
    plain = os.environ.get("GITHUB_TOKEN") or env_vars.get("github_token")
    if plain and not env_vars.get(prefixed):
        env_vars[prefixed] = plain
    return source

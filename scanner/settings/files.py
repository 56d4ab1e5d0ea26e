"""Reads settings from the environment or `.env`, and secrets from files.

R8SCAN_X_FILE is the name of a file that contains the value of R8SCAN_X.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from scanner.settings.errors import SettingsError, reason
from scanner.settings.names import PREFIX, SECRETS

OF_LINES = ("GITHUB_APP_PRIVATE_KEY",)
"""Secrets that may have several lines."""


class Variables(PydanticBaseSettingsSource):
    """Settings from the environment or from `.env`, as text.

    Args:
        source: The source of pydantic-settings that has read the variables.
    """

    def __init__(self, source: PydanticBaseSettingsSource) -> None:
        super().__init__(source.settings_cls)
        self.env_vars: dict[str, str | None] = dict(getattr(source, "env_vars", {}))

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return a setting's text (or None) and its name. The third value is always False: no text is JSON."""
        del field
        return self.env_vars.get(f"{PREFIX}{field_name}".lower()), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the text of each setting that is set, by the setting's name."""
        fields = self.settings_cls.model_fields.items()
        values = ((name, self.get_field_value(field, name)[0]) for name, field in fields)
        given = {name: value for name, value in values if value is not None}
        for secret in SECRETS:
            if secret not in OF_LINES and not given.get(secret.lower(), "").isprintable():
                raise SettingsError(f"{PREFIX}{secret} must be one line of printable characters")
        return given


def with_files(source: PydanticBaseSettingsSource) -> Variables:
    """Return the variables with secrets read from files. The file R8SCAN_X_FILE is read only if R8SCAN_X is empty."""
    variables = Variables(source)
    env_vars = variables.env_vars
    names = {name.upper(): name for name in env_vars}
    for secret in SECRETS:
        wanted, file_name = f"{PREFIX}{secret}".upper(), f"{PREFIX}{secret}_FILE".upper()
        path = env_vars.get(names.get(file_name, ""))
        if not env_vars.get(names.get(wanted, "")) and path:
            try:
                env_vars[wanted.lower()] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as err:
                raise SettingsError(f"{file_name}: cannot read {path} ({reason(err)})") from err
    # Compose sets a variable without a value as empty. An empty token must not hide the plain GITHUB_TOKEN.
    token = names.get(f"{PREFIX}GITHUB_TOKEN", "")
    if not env_vars.get(token):
        env_vars.pop(token, None)
    return variables


def with_plain_token(source: Variables) -> Variables:
    """Return the variables. If R8SCAN_GITHUB_TOKEN is not set, it gets the value of GITHUB_TOKEN.

    Call this only for the last source of settings.
    """
    env_vars = source.env_vars
    prefixed = f"{PREFIX}GITHUB_TOKEN".lower()
    plain = os.environ.get("GITHUB_TOKEN") or env_vars.get("github_token")
    if plain and not env_vars.get(prefixed):
        env_vars[prefixed] = plain
    return source

"""The error of a wrong setting, in one line for the operator."""

from __future__ import annotations

from pydantic import ValidationError

from scanner.settings.names import PREFIX

_LIMITS = {
    "too_short": "must have at least {min_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "too_long": "must have at most {max_length} characters",
    "string_too_long": "must have at most {max_length} characters",
}
"""Clearer messages for pydantic's errors about lengths and validation."""


class SettingsError(Exception):
    """A setting is wrong. The message is one line that names the variable and says what to write."""


def reason(err: Exception) -> str:
    """Return why a file cannot be used, in a few words."""
    return err.strerror or type(err).__name__ if isinstance(err, OSError) else str(err)


def one_line(err: ValidationError) -> str:
    """Return the first of pydantic's errors as one line that names the variable and says what to write."""
    first = err.errors(include_url=False, include_input=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return message
    message = _LIMITS[first["type"]].format(**first["ctx"]) if first["type"] in _LIMITS else message
    message = message.replace("must have at least 1 characters", "must not be empty")
    message = message.removeprefix("Input ").removeprefix("String ").removeprefix("Value ")
    return f"{PREFIX}{str(first['loc'][0]).upper()} {message}"

"""The error for a wrong setting."""

from __future__ import annotations

from pydantic import ValidationError

from scanner.settings.names import PREFIX

_LIMITS = {
    "too_short": "must have at least {min_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "too_long": "must have at most {max_length} characters",
    "string_too_long": "must have at most {max_length} characters",
}
"""Clearer messages for pydantic's errors about lengths."""
_TYPES = {
    "float_parsing": "must be a number, such as 2.5",
    "float_type": "must be a number, such as 2.5",
    "int_parsing": "must be a whole number, such as 10",
    "int_from_float": "must be a whole number, such as 10",
    "int_type": "must be a whole number, such as 10",
    "bool_parsing": "must be true or false",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "finite_number": "must be a finite number",
    "string_unicode": "must be text in UTF-8",
}
"""Clearer messages for pydantic's errors about types and ranges."""
_KEYS = ("REPORT_KEY", "METRICS_KEY", "GATEWAY_KEY", "ANNOUNCE_WEBHOOK_SECRET", "OPERATOR_WEBHOOK_SECRET")
"""Secrets that the operator invents."""


class SettingsError(Exception):
    """Raised if a setting is wrong. The message is one line that names the variable."""


def reason(err: Exception) -> str:
    """Return a few words that say why a file cannot be used."""
    return err.strerror or type(err).__name__ if isinstance(err, OSError) else str(err)


def one_line(err: ValidationError) -> str:
    """Return the first of pydantic's errors as one line with the name of the variable."""
    first = err.errors(include_url=False, include_input=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return message
    words = {**_LIMITS, **_TYPES}
    message = words[first["type"]].format(**first.get("ctx", {})) if first["type"] in words else message
    message = message.replace("must have at least 1 characters", "must not be empty")
    message = message.removeprefix("Input ").removeprefix("String ").removeprefix("Value ")
    name = str(first["loc"][0]).upper()
    if name in _KEYS and first["type"] in ("too_short", "string_too_short"):
        message += "; make one with: openssl rand -hex 32"
    return f"{PREFIX}{name} {message}"

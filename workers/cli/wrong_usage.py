"""Builds the error message for a wrong command line."""

from __future__ import annotations

import re
from typing import Any

from typer import TyperException

_WORDS = (
    (re.compile(r"Input should be a valid integer.*"), "must be a whole number"),
    (re.compile(r"Input should be a valid number.*"), "must be a number"),
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"must be \1 or more"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"must be \1 or less"),
    (re.compile(r"Value error, '' is not one of (.*)"), r"is empty: write one of \1"),
    (re.compile(r"Value error, '(.*)' is not one of (.*)"), r"cannot be \1: write one of \2"),
    (re.compile(r"^(Input should|Value error,) "), ""),
)
"""Clearer texts for pydantic's messages about wrong values, which typer shows to the user."""


def line(err: TyperException) -> str:
    """Return the error message as one line. It may repeat what the user typed."""
    context: Any = getattr(err, "ctx", None)
    command = context.command_path if context is not None else "r8scan"
    message = (_about_parameter(err) or err.format_message()).strip().rstrip(".")
    return f"{message[:1].lower()}{message[1:]}{' See' if message.endswith('?') else '; see'} {command} --help"


def _about_parameter(err: TyperException) -> str | None:
    """Return what is wrong with an option or argument, or None for other errors."""
    parameter: Any = getattr(err, "param", None)
    if parameter is None:
        return None
    is_option = parameter.param_type_name == "option"
    name = f"option {parameter.opts[0]}" if is_option else f"argument {parameter.metavar or parameter.name}"
    if not hasattr(err, "param_type"):
        message = err.message
        for pattern, words in _WORDS:
            message = pattern.sub(words, message)
        return f"the {name} {message}".replace("write one of '', ", "write one of ")
    meaning = (parameter.help or "").rstrip(".")
    return f"the {name} is missing" + (f" ({meaning[:1].lower()}{meaning[1:]})" if meaning else "")

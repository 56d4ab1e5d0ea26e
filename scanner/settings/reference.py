"""Writes the reference page of all settings: `python -m scanner.settings.reference`."""

from __future__ import annotations

import ast
import inspect
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from scanner.settings.fields import Settings
from scanner.settings.names import PREFIX, SECRETS

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
HEAD = f"""# All settings

This page is made of the code: `python -m scanner.settings.reference` writes it. [Operations](operations.md#settings)
has the same settings by topic, and where they are read from. A secret (marked *) may be given as a file's name:
`{PREFIX}GITHUB_TOKEN_FILE=/run/secrets/github_token`. If both are set, the value is used and the file is not read.

| variable | default | values | meaning |
| --- | --- | --- | --- |
"""
_PLATFORM_DEFAULTS = {"state_dir": "the platform's user state folder"}


def page() -> str:
    """Return the reference page of all settings as Markdown."""
    meanings = _docstrings()
    return HEAD + "".join(_row(name, field, meanings[name]) for name, field in Settings.model_fields.items())


def _docstrings() -> dict[str, str]:
    """Return the docstring of each setting, by the setting's name."""
    (definition,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - the source of a class
    found: dict[str, str] = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = ast.literal_eval(below.value)
    return found


def _row(name: str, field: FieldInfo, meaning: str) -> str:
    mark = "*" if name.upper() in SECRETS else ""
    cells = (_default(name, field), _values(field), meaning)
    texts = " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return f"| `{PREFIX}{name.upper()}`{mark} | {texts} |\n"


def _default(name: str, field: FieldInfo) -> str:
    if name in _PLATFORM_DEFAULTS:
        return _PLATFORM_DEFAULTS[name]
    return f"`{text}`" if (text := _text(field.default)) else "none"


def _text(value: Any) -> str:
    """Return the value as text for an environment variable. Return "" for None."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(getattr(one, "text", None) or str(one) for one in value)
    return "" if value is None else str(value)


def _values(field: FieldInfo) -> str:
    """Return the permitted values of a setting, or "" if any text is allowed."""
    kinds = [one for one in (get_args(field.annotation) or (field.annotation,)) if one is not type(None)]
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{one}`" for one in kinds)
    if kinds == [bool]:
        return "`true`, `false`"
    if isinstance(kinds[0], type) and issubclass(kinds[0], StrEnum):
        return ", ".join(f"`{one.value}`" for one in kinds[0])
    low, high = (
        next((getattr(one, name) for one in field.metadata if hasattr(one, name)), None) for name in ("ge", "le")
    )
    if low is None:
        return ""
    return f"{low:,} to {high:,}" if high is not None else f"at least {low:,}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""Determines the name under which the audit log records who ran a command."""

from __future__ import annotations

import getpass


def operator_name() -> str:
    """Return `operator:` followed by the user's name, or `operator` if the user has no name.

    The name contains only ASCII letters, digits and `_`, and at most 50 characters.
    """
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return "operator"
    clean = "".join(char if char.isascii() and char.isalnum() else "_" for char in name)[:50]
    return f"operator:{clean}"

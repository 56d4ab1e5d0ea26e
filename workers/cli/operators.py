"""Determines the name under which the audit log records who ran a command."""

from __future__ import annotations

import getpass


def operator_name() -> str:
    """Return `operator:` followed by the user name of the operating system, or `operator` if there is no user name.

    Characters other than ASCII letters and digits are replaced by `_`. The name is cut to 50 characters.
    """
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return "operator"
    clean = "".join(char if char.isascii() and char.isalnum() else "_" for char in name)[:50]
    return f"operator:{clean}"

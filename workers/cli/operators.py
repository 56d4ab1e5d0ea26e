"""The name that the audit records for the operator who runs a command."""

from __future__ import annotations

import getpass


def operator_name() -> str:
    """Return `operator:` and the user name of the operating system, or `operator` if there is no user name.

    In the name, `_` replaces each character that is not an ASCII letter or digit. The name is cut to 50 characters.
    """
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return "operator"
    clean = "".join(char if char.isascii() and char.isalnum() else "_" for char in name)[:50]
    return f"operator:{clean}"

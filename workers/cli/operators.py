"""The name of the operator who runs a command, for the audit."""

from __future__ import annotations

import getpass


def operator_name() -> str:
    """Return `operator:` and the first 50 characters of the system's user name, or `operator` if there is none.

    Each character that is not an ASCII letter or digit becomes `_`.
    """
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return "operator"
    clean = "".join(char if char.isascii() and char.isalnum() else "_" for char in name)[:50]
    return f"operator:{clean}"

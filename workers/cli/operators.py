"""Who runs a command: the name under which the audit keeps what operators decide."""

from __future__ import annotations

import getpass


def operator_name() -> str:
    """`operator:` and the user's name, as far as the system says it; letters and digits only."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return "operator"
    clean = "".join(char if char.isascii() and char.isalnum() else "_" for char in name)[:50]
    return f"operator:{clean}"

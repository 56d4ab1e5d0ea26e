"""Error messages of commands: turns an error that an operator can fix into one line that says how."""

from __future__ import annotations

from scanner.detection import redact
from scanner.records.database import DatabaseUnavailable, is_unavailable
from scanner.settings import SettingsError
from scanner.tokens.protocol import StoreUnavailable


class UserError(Exception):
    """The user can fix this error. The message is one line that says why and what to do."""


def explain(err: BaseException) -> str | None:
    """Return the line to print, or None if the error is a bug in r8scan."""
    # Import late: every command imports this module, and few of them fail.
    from scanner.records.retention import NotErasable
    from scanner.response.operator_actions import NotPossible

    if isinstance(err, DatabaseUnavailable):
        return redact(f"{err}: check R8SCAN_DATABASE_URL")
    if isinstance(err, UserError | SettingsError | NotPossible | NotErasable):
        return redact(" ".join(str(err).split()))
    if isinstance(err, StoreUnavailable):
        return redact(f"the token store is away ({err}): try again later")
    if is_unavailable(err):
        detail = str(getattr(err, "orig", err)).strip().splitlines()
        if detail and "no such table" in detail[0]:
            return "the database has no tables yet: run `r8scan db upgrade`"
        return redact(
            f"the database cannot be used ({detail[0] if detail else 'no detail'}): check R8SCAN_DATABASE_URL"
        )
    if "UndefinedTable" in type(getattr(err, "orig", None)).__name__:
        return "the database has no tables yet: run `r8scan db upgrade`"
    return None

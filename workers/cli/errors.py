"""The exceptions of commands, and the error messages that the command line prints."""

from __future__ import annotations

import errno
import re

from scanner.detection import redact

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The error numbers for a full disk, a used-up disk quota, and a read-only file system."""


class UserError(Exception):
    """Raised for an error that the user can fix. The message is one line."""


class WrongUsage(UserError):
    """Raised for a wrong argument or option. The exit status is then 2."""


def wrong_filter(err: ValueError) -> WrongUsage:
    """Convert an error about a filter value into a WrongUsage that names the command-line option."""
    named = re.compile(r"(\w+) (?=is longer than|must be)").match(str(err))
    if named is None:
        return WrongUsage(str(err))
    return WrongUsage(f"--{'search' if named[1] == 'q' else named[1]} {str(err)[named.end() :]}")


def explain(err: BaseException) -> str | None:
    """Return one line that says what is wrong and what to do, or None for an unknown error."""
    if isinstance(err, UserError):
        return redact(" ".join(str(err).split()))
    # Import these modules only here, because every command imports `workers.cli.errors`.
    from sqlalchemy.exc import DBAPIError

    from scanner.records.database import DatabaseUnavailable, is_unavailable
    from scanner.records.retention import NotErasable
    from scanner.records.versions import WrongVersion
    from scanner.response.operator_actions import NotPossible
    from scanner.settings import SettingsError
    from scanner.tokens.protocol import StoreUnavailable

    if isinstance(err, WrongVersion):
        return redact(str(err))
    if isinstance(err, DBAPIError):
        if "disk is full" in str(err.orig):
            return f"the disk of the database is full: make room, or change {_database_setting()}"
        if (wrong := _wrong_version()) is not None:
            return redact(wrong)
    if isinstance(err, DatabaseUnavailable):
        return redact(f"{err}: check {_database_setting()}")
    if isinstance(err, OSError) and err.errno in DISK_ERRORS:
        # An error without a file name is about the output or about an open file in the state folder.
        if not err.filename:
            return f"cannot write: {err.strerror}; make room for the output, and in R8SCAN_STATE_DIR"
        return redact(
            f"the disk cannot be written: {err.strerror} ({err.filename}); make room, or move R8SCAN_STATE_DIR"
        )
    if isinstance(err, SettingsError | NotPossible | NotErasable):
        return redact(" ".join(str(err).split()))
    if isinstance(err, StoreUnavailable):
        return redact(f"the token store is unavailable ({err}): try again later")
    if is_unavailable(err):
        detail = str(getattr(err, "orig", err)).strip().splitlines()
        return redact(
            f"the database cannot be used ({detail[0] if detail else 'no detail'}): check {_database_setting()}"
        )
    return None


def _database_setting() -> str:
    """Return the name of the setting that determines the database: R8SCAN_STATE_DIR or R8SCAN_DATABASE_URL."""
    from scanner.settings import SettingsError, load_settings

    try:
        settings = load_settings(use_state=False)
    except SettingsError:
        return "R8SCAN_DATABASE_URL"
    return "R8SCAN_STATE_DIR" if settings.is_default_database else "R8SCAN_DATABASE_URL"


def _wrong_version() -> str | None:
    """Return an error message if another version of r8scan created the database's tables, otherwise None."""
    from sqlalchemy.exc import DBAPIError

    from scanner.records import versions
    from scanner.records.database import Database, DatabaseUnavailable
    from scanner.settings import SettingsError, load_settings

    try:
        database = Database(load_settings(use_state=False).database_url.get_secret_value())
        with database.read() as session:
            wrong = versions.problem(versions.present(session))
        database.close()
    except (SettingsError, DatabaseUnavailable, DBAPIError):
        return None  # then the caller prints the original error
    if wrong is None:
        return None
    sentence, todo = wrong
    return f"{sentence}: {todo}"

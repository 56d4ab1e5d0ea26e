"""Compares the revision of the database's tables with the newest revision of this program."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from scanner.records.database import Database, is_unavailable

# Read the file names, because importing alembic takes half a second.
_MIGRATIONS = Path(__file__).parent / "migrations" / "versions"


class WrongVersion(Exception):
    """Raised if the tables belong to another version of r8scan. The message is one line that says what to do."""


def wanted() -> str:
    """Return the newest revision that this program knows."""
    return max(path.name[:4] for path in _MIGRATIONS.glob("*.py") if re.match(r"\d{4}_", path.name))


def present(session: Session) -> str | None:
    """Return the revision of the database, or None if r8scan has not created its tables yet."""
    try:
        return session.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except DBAPIError as err:
        if "alembic_version" not in str(err.orig):
            raise
        return None


def check(database: Database) -> None:
    """Check that the database has the tables of this version of r8scan. Ignore a database that cannot be reached.

    Raises:
        WrongVersion: The database is newer or older than this program, or has no tables.
    """
    try:
        with database.read() as session:
            revision = present(session)
    except Exception as err:
        if not is_unavailable(err):
            raise
        return
    if wrong := problem(revision):
        raise WrongVersion(": ".join(wrong))


def problem(revision: str | None) -> tuple[str, str] | None:
    """Return an error message and advice, or None if this is the revision that this program needs."""
    newest = wanted()
    if revision is None:
        return "the database has no tables yet", "run r8scan db upgrade"
    if revision == newest:
        return None
    if revision < newest:
        return f"the database is older than this program ({revision}, wanted {newest})", "run r8scan db upgrade"
    return (
        f"the database is newer than this program ({revision}, wanted {newest})",
        "install the version that upgraded it",
    )

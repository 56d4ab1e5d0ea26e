"""Which tables this program wants and which the database has, without alembic: importing it takes half a second."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

_MIGRATIONS = Path(__file__).parent / "migrations" / "versions"


class WrongVersion(Exception):
    """The tables are not those of this program. The message is one line that says what to do."""


def wanted() -> str:
    """Return the newest revision of this program: migrations are numbered in one line."""
    return max(path.name[:4] for path in _MIGRATIONS.glob("*.py") if re.match(r"\d{4}_", path.name))


def present(session: Session) -> str | None:
    """Return the revision of the database, None when it has no tables of ours yet."""
    try:
        return session.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except DBAPIError as err:
        if "alembic_version" not in str(err.orig):
            raise
        return None


def problem(revision: str | None) -> tuple[str, str] | None:
    """Return what is wrong with a database of this revision, and what to do; None when it is the wanted one."""
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

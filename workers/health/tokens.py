"""Checks that r8scan's own token store (an SQL table) is not empty."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from scanner.records.canaries import own_tokens
from scanner.settings import Settings
from workers.health.problems import Kind, Problem

NONE_KNOWN = "no token is known, so no leak can be recognised"
IMPORT = "import your tokens with r8scan tokens import, or set R8SCAN_TOKEN_STORE_URL to the token store that has them"


def is_empty(session: Session, settings: Settings) -> bool:
    """Return whether r8scan's own token store (an SQL table) is used and contains no tokens except canaries (test
    tokens).
    """
    return settings.token_store_url is None and not session.execute(select(exists().where(~own_tokens()))).scalar_one()


def problems(session: Session, settings: Settings) -> Iterator[Problem]:
    """Yield a problem if r8scan's own token store contains no tokens."""
    if is_empty(session, settings):
        yield Problem(Kind.STORE_EMPTY, NONE_KNOWN, IMPORT)

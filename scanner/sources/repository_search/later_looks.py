"""Stores ranges of push times that repository search will search again."""

from __future__ import annotations

from array import array
from collections.abc import Collection

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from scanner.records.columns import insert_or_nothing
from scanner.records.discovery_models import SearchWindow
from scanner.records.models import db_now
from scanner.sources.repository_search.search_run import Look, SearchRun
from scanner.sources.repository_search.windows import LOOKS_AFTER

MAX_DUE = 20
"""Limit of the windows (ranges of push times) that one run searches again."""


def due(session: Session) -> list[Look]:
    """Return the ranges of push times that are due to be searched again, the longest overdue first."""
    statement = (
        select(SearchWindow)
        .where(SearchWindow.next_look_at <= db_now())
        .order_by(SearchWindow.next_look_at)
        .limit(MAX_DUE)
    )
    return [
        Look((row.start, row.end), row.number, row.looks, row.total, frozenset(_unpacked(row.seen)))
        for row in session.execute(statement).scalars()
    ]


def write(session: Session, search: SearchRun) -> None:
    """Store when the ranges of push times in this run are searched again. Delete those that need no further search."""
    for span, number, found in search.first:
        row = insert_or_nothing(session, SearchWindow).values(
            start=span[0],
            end=span[1],
            number=number,
            looks=0,
            total=found.total,
            seen=_packed(found.found),
            first_look_at=db_now(),
            next_look_at=db_now(LOOKS_AFTER[0]),
        )
        session.execute(row)
    for look, total, seen in search.again:
        is_this_window = SearchWindow.start == look.span[0]
        following = look.look + 1
        if following >= len(LOOKS_AFTER):
            session.execute(delete(SearchWindow).where(is_this_window).execution_options(synchronize_session=False))
            continue
        delay = LOOKS_AFTER[following] - LOOKS_AFTER[look.look]
        session.execute(
            update(SearchWindow)
            .where(is_this_window)
            .values(looks=following, total=total, seen=_packed(seen), next_look_at=db_now(delay))
            .execution_options(synchronize_session=False)
        )


def _packed(ids: Collection[int]) -> bytes:
    return array("q", sorted(ids)).tobytes()


def _unpacked(packed: bytes) -> array[int]:
    ids = array("q")
    ids.frombytes(packed)
    return ids

"""Stores which commits of each repository were read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from scanner.records.columns import insert_or_nothing
from scanner.records.models import db_now
from scanner.records.reading_models import RepositoryTips
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.tips import RememberedTips, TipsRead, advanced, decoded, encoded

KEPT_DAYS = 180
"""A repository without a push for this long is forgotten."""
MAX_DELETED_AT_ONCE = 5000

Key = tuple[str, int]
"""A host, and the host's id of a repository."""


def key_of(push: Push, host: str) -> Key | None:
    """Return the key under which the repository is stored, or None if its id is unknown."""
    if push.repository_id is None:
        return None
    return f"{host}#wiki" if push.repository.endswith(".wiki") else host, push.repository_id


def recall(session: Session, pushes: Sequence[Push], host: str) -> dict[Key, RememberedTips]:
    """Return which commits of these pushes' repositories were read before, by `key_of`."""
    return {key: _tips(row) for key, row in _rows(session, {key_of(push, host) for push in pushes}).items()}


def remember(session: Session, read: Sequence[tuple[Push, TipsRead]], host: str) -> None:
    """Record which commits were read, so that later pushes do not fetch them again."""
    by_key: defaultdict[Key, list[tuple[Push, TipsRead]]] = defaultdict(list)
    for push, tips in read:
        key = key_of(push, host)
        if key is not None and tips.tips:
            by_key[key].append((push, tips))
    if not by_key:
        return
    now = session.execute(select(db_now())).scalar_one()
    # Lock the rows in a fixed order, so that two jobs with the same repositories cannot deadlock.
    keys = sorted(by_key)
    empty = {"tips": b"", "is_whole": False}
    rows = [{"host": host_name, "repository_id": number, **empty} for host_name, number in keys]
    session.connection().execute(insert_or_nothing(session, RepositoryTips).values(read_at=db_now()), rows)
    found = _rows(session, keys, lock=True)
    for key in keys:
        row, known = found[key], _tips(found[key])
        for push, tips in by_key[key]:
            known = advanced(known, tips, push.published_at, now)
        row.tips, row.is_whole = encoded(known.tips), known.is_whole
        row.pushed_at, row.refs_listed_at, row.read_at = known.pushed_at, known.refs_listed_at, now


def purge(session: Session, *, max_rows: int) -> tuple[int, int]:
    """Delete expired rows, and the oldest rows if there are more than `max_rows`. Each call deletes a limited number.

    Returns:
        The number of expired rows that were deleted, and the number of rows that were deleted because of `max_rows`.
    """
    expired = _delete(session, RepositoryTips.read_at < db_now(-KEPT_DAYS * 86400))
    excess = session.execute(select(func.count()).select_from(RepositoryTips)).scalar_one() - max_rows
    return expired, _delete(session, limit=min(excess, MAX_DELETED_AT_ONCE)) if excess > 0 else 0


def _delete(session: Session, *conditions: object, limit: int = MAX_DELETED_AT_ONCE) -> int:
    key = tuple_(RepositoryTips.host, RepositoryTips.repository_id)
    oldest = select(RepositoryTips.host, RepositoryTips.repository_id).where(*conditions)  # type: ignore[arg-type]
    chosen = session.execute(oldest.order_by(RepositoryTips.read_at).limit(limit)).all()
    if chosen:
        statement = delete(RepositoryTips).where(key.in_([tuple(row) for row in chosen]))
        session.execute(statement.execution_options(synchronize_session=False))
    return len(chosen)


def _rows(session: Session, keys: Collection[Key | None], *, lock: bool = False) -> Mapping[Key, RepositoryTips]:
    wanted = sorted(key for key in keys if key is not None)
    if not wanted:
        return {}
    statement = (
        select(RepositoryTips)
        .where(tuple_(RepositoryTips.host, RepositoryTips.repository_id).in_(wanted))
        .order_by(RepositoryTips.host, RepositoryTips.repository_id)
    )
    if lock:
        statement = statement.with_for_update()
    return {(row.host, row.repository_id): row for row in session.execute(statement).scalars()}


def _tips(row: RepositoryTips) -> RememberedTips:
    return RememberedTips(decoded(row.tips), row.is_whole, row.pushed_at, row.refs_listed_at)

"""Checks by node ids whether new repositories have received their first push."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from scanner.github import repositories
from scanner.github.client import GitHub
from scanner.github.repositories import PAGE_SIZE, ListedRepository, Page
from scanner.records.columns import insert_or_nothing
from scanner.records.discovery_models import NewRepository
from scanner.records.models import db_now

LOOKS_AFTER = (60, 300, 900, 3600, 21_600)
"""Seconds from the listing of a repository to each check for its first push."""
LOOK_AGAIN_SECONDS = 60
"""If a check of a new repository for its first push fails, it is repeated after this time."""
GONE_TYPES = frozenset(["NOT_FOUND", "FORBIDDEN"])
"""Types of the errors that mean that a repository is no longer public."""
MAX_LOOKS = 1000
"""Limit of the repositories that one poll checks."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A new repository without a push. `looks` is the number of checks so far."""

    repository_id: int
    node_id: str
    looks: int


@dataclass(slots=True)
class Looks:
    """The results of one poll that checks new repositories for their first push.

    Attributes:
        unseen: Repositories that are not in GitHub's answer, because the query cost too much.
        failed: Repositories that are not in GitHub's answer because of an error at GitHub.
    """

    pushed: list[ListedRepository] = field(default_factory=list)
    empty: list[Waiting] = field(default_factory=list)
    unseen: list[Waiting] = field(default_factory=list)
    failed: list[Waiting] = field(default_factory=list)
    gone: list[Waiting] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def run(self, github: GitHub, due: Sequence[Waiting]) -> None:
        """Check the repositories in `due` for their first push.

        Raises:
            GitHubError: A query failed. The results of earlier queries are kept.
        """
        for start in range(0, len(due), PAGE_SIZE):
            rows = due[start : start + PAGE_SIZE]
            page = repositories.look_at(github, [row.node_id for row in rows])
            milliseconds = round(1000 * page.seconds)
            self.counts.update(node_queries=1, points=page.points, looks=len(rows), milliseconds=milliseconds)
            missing = self._missing(page)
            found = {one.id: one for one in page.repositories}
            for row in rows:
                one = found.get(row.repository_id)
                if one is None:
                    missing.append(row)
                elif one.is_empty or one.tip is None:
                    self.empty.append(row)
                else:
                    self.pushed.append(one)

    def _missing(self, page: Page) -> list[Waiting]:
        """Return the list to which to add repositories that GitHub's answer lacks: `unseen`, `gone` or `failed`."""
        if not page.is_whole:
            return self.unseen
        return self.gone if page.errors.keys() <= GONE_TYPES else self.failed

    def write(self, session: Session) -> None:
        """Store when each repository is checked again. Delete the repositories that need no further check."""
        last = [row.repository_id for row in self.empty if row.looks + 1 >= len(LOOKS_AFTER)]
        never_seen = [row.repository_id for row in self.failed if row.looks + 1 >= len(LOOKS_AFTER)]
        for looks in range(len(LOOKS_AFTER) - 1):
            empty = [row.repository_id for row in self.empty if row.looks == looks]
            _set_next_look(session, empty, LOOKS_AFTER[looks + 1] - LOOKS_AFTER[looks], looks + 1)
            # Count failed checks too, because GitHub may never show a repository.
            failed = [row.repository_id for row in self.failed if row.looks == looks]
            _set_next_look(session, failed, LOOK_AGAIN_SECONDS, looks + 1)
        for looks in range(len(LOOKS_AFTER)):
            unseen = [row.repository_id for row in self.unseen if row.looks == looks]
            _set_next_look(session, unseen, LOOK_AGAIN_SECONDS, looks)
        pushed, gone = (one.id for one in self.pushed), (row.repository_id for row in self.gone)
        _forget(session, [*last, *never_seen, *pushed, *gone])
        self.counts.update(first_pushes=len(self.pushed), gone=len(self.gone), never_pushed=len(last))
        self.counts.update(looks_failed=len(self.failed), never_seen=len(never_seen))


def due(session: Session) -> list[Waiting]:
    """Return the repositories that are due to be checked for a push, the longest overdue first."""
    statement = (
        select(NewRepository.repository_id, NewRepository.node_id, NewRepository.looks)
        .where(NewRepository.next_look_at <= db_now())
        .order_by(NewRepository.next_look_at)
        .limit(MAX_LOOKS)
    )
    rows = session.execute(statement)
    return [Waiting(row.repository_id, row.node_id, row.looks) for row in rows]


def wait_for_first_push(session: Session, found: Sequence[ListedRepository]) -> None:
    """Store new repositories, so that later polls check them for a first push."""
    rows = [{"repository_id": one.id, "node_id": one.node_id} for one in sorted(found, key=lambda one: one.id)]
    if rows:
        statement = insert_or_nothing(session, NewRepository)
        values = statement.values(looks=0, listed_at=db_now(), next_look_at=db_now(LOOKS_AFTER[0]))
        session.connection().execute(values, rows)


def _set_next_look(session: Session, ids: Collection[int], seconds: float, looks: int) -> None:
    if ids:
        statement = update(NewRepository).where(NewRepository.repository_id.in_(ids))
        values = statement.values(looks=looks, next_look_at=db_now(seconds))
        session.execute(values.execution_options(synchronize_session=False))


def _forget(session: Session, ids: Collection[int]) -> None:
    if ids:
        statement = delete(NewRepository).where(NewRepository.repository_id.in_(ids))
        session.execute(statement.execution_options(synchronize_session=False))

"""Reads GitHub's list of public repositories, which is ordered by id.

https://docs.github.com/rest/repos/repos#list-public-repositories
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanner.github import repositories
from scanner.github.client import GitHub
from scanner.github.errors import RateLimited
from scanner.github.repositories import ListedRepository, Page

OVERLAP_IDS = 200
"""Each poll lists this many known ids again, because GitHub may list a lower id after a higher one."""
DEEP_OVERLAP_IDS = 2000
"""Every DEEP_SECONDS, a poll lists this many known ids again, to find repositories that GitHub lists late."""
DEEP_SECONDS = 300.0
"""At this interval, a poll lists DEEP_OVERLAP_IDS known repository ids again."""
MAX_PAGES = 20
"""Limit of the pages of one poll."""
OWED_PAGES = 10
"""One poll lists at most this many pages of repository ids that earlier polls skipped."""
OWED_RESERVE = 0.5
"""The share of the REST quota that is left to other work while a poll lists repository ids that earlier polls skipped.
"""
MAX_OWED_IDS = 2_000_000
"""At most this many skipped repository ids are listed later. This is about the number of ids in three days."""
MAX_ID = 2**40
MAX_KNOWN = 5000

Span = tuple[int, int]


@dataclass(slots=True)
class ListPosition:
    """How far the list of public repositories was read.

    Attributes:
        newest: The highest id that was listed. 0 before the first poll.
        known: Ids that were listed before and are ignored when listed again.
        deep_at: When a poll must next list a larger number of known ids again, in seconds since the epoch.
        owed: Ranges of ids that must still be listed, the newest last. Each excludes its first id and includes its
            last.
    """

    newest: int = 0
    known: set[int] = field(default_factory=set)
    deep_at: float = 0.0
    owed: list[Span] = field(default_factory=list)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ListPosition:
        return cls(
            newest=int(value.get("newest", 0)),
            known=set(value.get("known", ())),
            deep_at=float(value.get("deep_at", 0.0)),
            owed=[(int(start), int(end)) for start, end in value.get("owed", ())],
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "newest": self.newest,
            "known": sorted(self.known)[-MAX_KNOWN:],
            "deep_at": round(self.deep_at, 1),
            "owed": [list(span) for span in self.owed],
        }


@dataclass(slots=True)
class Listing:
    """One poll of the list of public repositories.

    Attributes:
        place: The position in the list. The poll updates it.
        found: Repositories that were not listed before.
        given_up: Ranges of ids that will not be listed, because one poll skipped more than MAX_OWED_IDS ids.
    """

    place: ListPosition
    found: list[ListedRepository] = field(default_factory=list)
    given_up: list[Span] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def run(self, github: GitHub, now: float) -> None:
        """List new repositories, then some of the older ids that earlier polls have skipped.

        Raises:
            GitHubError: A page could not be read. Repositories that were listed before the error stay in `found`.
        """
        place = self.place
        if not place.newest:
            place.newest = self._newest(github, 0)
            return
        is_deep = not now < place.deep_at <= now + DEEP_SECONDS
        since = max(place.newest - (DEEP_OVERLAP_IDS if is_deep else OVERLAP_IDS), 0)
        reached, is_at_end = self._list(github, since, MAX_PAGES)
        if not is_at_end:
            self._jump(github, reached)
        if is_deep:
            place.deep_at = now + DEEP_SECONDS
        self._list_owed(github)
        place.known = {number for number in place.known if number > place.newest - DEEP_OVERLAP_IDS}

    def _list(self, github: GitHub, since: int, pages: int, until: int = MAX_ID) -> tuple[int, bool]:
        """List repositories with ids above `since`, in at most `pages` pages, up to the id `until`.

        Returns:
            The highest id that was reached, and whether all ids up to `until` have been listed.
        """
        reached, url = since, None
        for _ in range(pages):
            page = repositories.list_since(github, reached, url)
            self._note(page)
            ids = [one.id for one in page.repositories]
            for one in page.repositories:
                if one.id not in self.place.known and one.id <= until:
                    self.place.known.add(one.id)
                    self.found.append(one)
            highest = max(ids, default=reached)
            if until == MAX_ID:
                self.place.newest = max(self.place.newest, highest)
            if page.after is None or highest >= until:
                return max(highest, reached), True
            # Follow the link only to higher ids, because it could lead in a circle.
            url = page.after if highest > reached else None
            reached = max(highest, reached)
        return reached, False

    def _jump(self, github: GitHub, reached: int) -> None:
        """Continue at the newest repository. Later polls list the skipped ids."""
        newest = self._newest(github, reached)
        start, self.place.newest = reached, newest
        if newest - start > MAX_OWED_IDS:
            self.given_up.append((start, newest - MAX_OWED_IDS))
            start = newest - MAX_OWED_IDS
        self.place.owed.append((start, newest))

    def _list_owed(self, github: GitHub) -> None:
        if not self.place.owed:
            return
        start, end = self.place.owed[-1]
        try:
            reached, is_done = self._list(github.reserving(OWED_RESERVE), start, OWED_PAGES, until=end)
        except RateLimited:
            self.counts["owed_waits_for_quota"] += 1
            return
        self.place.owed.pop()
        if not is_done:
            self.place.owed.append((reached, end))

    def _newest(self, github: GitHub, known: int) -> int:
        """Return the highest id in GitHub's list, at least `known`."""
        low, high, step = known, known + 1, 1
        while high < MAX_ID and self._has_any(github, high):
            low, step = high, step * 4
            high = min(high + step, MAX_ID)
        while high - low > 1:
            middle = (low + high) // 2
            if self._has_any(github, middle):
                low = middle
            else:
                high = middle
        return high

    def _has_any(self, github: GitHub, since: int) -> bool:
        page = repositories.list_since(github, since)
        self._note(page)
        return bool(page.repositories) or page.unusable > 0

    def _note(self, page: Page) -> None:
        self.counts["requests"] += 1
        self.counts["unusable_repository"] += page.unusable

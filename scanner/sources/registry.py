"""The list of all sources that can be polled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from scanner.records.states import JobKind
from scanner.sources.archive.poll import EVENT_ARCHIVE
from scanner.sources.code_search.poll import CODE_SEARCH
from scanner.sources.gists.poll import GISTS
from scanner.sources.new_repositories.poll import NEW_REPOSITORIES
from scanner.sources.polling.source import Source
from scanner.sources.repository_search.poll import REPOSITORY_SEARCH
from scanner.sources.timeline.poll import PUBLIC_EVENTS

SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        PUBLIC_EVENTS,
        REPOSITORY_SEARCH,
        NEW_REPOSITORIES,
        CODE_SEARCH,
        GISTS,
        EVENT_ARCHIVE,
    )
}


def droppable_priorities(kind: JobKind) -> tuple[int, ...]:
    """Return the priorities of this kind of job that may be dropped when too many jobs wait."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for source in SOURCES.values():
        for job_kind, priorities in source.droppable.items():
            found[job_kind].update(priorities)
    return tuple(sorted(found[kind]))

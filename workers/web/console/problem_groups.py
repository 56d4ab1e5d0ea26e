"""The problems of the service as the first page lists them: in groups of one kind, each with a link to the page on
which the operator can act.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.health.problems import Kind, Problem

_SOURCES = ("/console/sources", "Sources")
_QUOTAS = ("/console/sources#quotas", "Quotas")
_MAILS = ("/console/outbox?state=pending", "Messages that wait")
_FAILED_MAILS = ("/console/outbox?state=failed", "Failed messages")
_JOBS = ("/console/jobs", "Jobs")
_CANARIES = ("/console/sources#canaries", "Canaries")
PAGES: dict[Kind, tuple[str, str]] = {
    Kind.MESSAGE_WAITS: _MAILS,
    Kind.MESSAGE_FAILED: _FAILED_MAILS,
    Kind.OWNER_UNDELIVERABLE: _FAILED_MAILS,
    Kind.DISABLING_WAITS: ("/console/incidents?action=disabling", "Incidents"),
    Kind.REPORTS_WAIT: ("/console/decisions", "Decisions"),
    Kind.STALLED: ("/console/jobs?state=running", "Running jobs"),
    Kind.JOBS_WAIT: ("/console/jobs?state=queued", "Queued jobs"),
    Kind.DROPPED: _SOURCES,
    Kind.SOURCE_ERROR: _SOURCES,
    Kind.SOURCE_STALE: _SOURCES,
    Kind.SOURCE_SILENT: _SOURCES,
    Kind.SOURCE_BEHIND: _JOBS,
    Kind.SOURCE_INCOMPLETE: ("/console/sources#gaps", "Gaps"),
    Kind.CREDENTIAL_REJECTED: _QUOTAS,
    Kind.REQUESTS_LIMITED: _QUOTAS,
    Kind.HOST_FAILS: _SOURCES,
    Kind.CANARY_LOST: _CANARIES,
    Kind.CANARY_LATE: _CANARIES,
    Kind.CANARY_NOT_PLANTED: _CANARIES,
}
"""The page of the console where a person sees and mends a problem of this kind: its address and name."""
TITLES = {
    Kind.REQUESTS_LIMITED: "GitHub limits requests",
    Kind.PROCESS_SILENT: "Processes are silent",
    Kind.QUEUE_WITHOUT_CONSUMER: "Queues have no consumer",
    Kind.MESSAGE_WAITS: "Messages wait",
    Kind.MESSAGE_FAILED: "Messages failed",
    Kind.STALLED: "Work makes no progress",
}
"""The heading of a group with more than one problem. Other kinds have their own words."""
STOPPING = tuple(Kind)[: tuple(Kind).index(Kind.NOT_RUNNING) + 1]
PEOPLE = (
    Kind.DISABLING_WAITS,
    Kind.STORE_AWAY,
    Kind.REPORTS_WAIT,
    Kind.MESSAGE_WAITS,
    Kind.MESSAGE_FAILED,
    Kind.OWNER_UNDELIVERABLE,
)
"""Problems because of which a token stays live or a person is not told. They follow those that stop all."""


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """The problems of one kind.

    `path` and `page` are the address and the name of the page on which the operator can act. Both are empty if no page
    helps.
    """

    title: str
    problems: Sequence[Problem]
    path: str
    page: str

    @property
    def advice(self) -> Sequence[str]:
        """Return what to do about the problems, in their order, without repetitions."""
        return list(dict.fromkeys(one.todo for one in self.problems))


def grouped(problems: Sequence[Problem]) -> list[ProblemGroup]:
    """Return the problems in groups of one kind, the most urgent kind first."""
    by_kind: dict[Kind, list[Problem]] = {}
    for one in problems:
        by_kind.setdefault(one.kind, []).append(one)
    return [
        ProblemGroup(TITLES.get(kind, _words(kind)), by_kind[kind], *PAGES.get(kind, ("", "")))
        for kind in sorted(by_kind, key=_rank)
    ]


def _rank(kind: Kind) -> tuple[bool, bool, int]:
    return (kind not in STOPPING, kind not in PEOPLE, list(Kind).index(kind))


def _words(kind: Kind) -> str:
    return kind.replace("_", " ").capitalize()

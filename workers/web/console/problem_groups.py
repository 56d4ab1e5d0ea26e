"""Groups the service's problems by kind, with a link to the page where the operator can act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workers.health.problems import Kind, Problem


@dataclass(frozen=True, slots=True)
class PageLink:
    """The path and name of a console page. Both are empty if no page helps."""

    path: str = ""
    name: str = ""


_SOURCES = PageLink("/console/sources", "Sources")
_QUOTAS = PageLink("/console/sources#quotas", "Quotas")
_MAILS = PageLink("/console/outbox?state=pending", "Messages that wait")
_FAILED_MAILS = PageLink("/console/outbox?state=failed", "Failed messages")
_JOBS = PageLink("/console/jobs", "Jobs")
_CANARIES = PageLink("/console/sources#canaries", "Canaries")
_PARTS = PageLink("/console/#parts", "Parts")
_PROCESSES = PageLink("/console/#processes", "Processes")
_OUTBOX = PageLink("/console/outbox", "Outbox")
PAGES: dict[Kind, PageLink] = {
    Kind.DATABASE_AWAY: _PARTS,
    Kind.DATABASE_VERSION: _PARTS,
    Kind.DATABASE_READ_ONLY: _PARTS,
    Kind.REDIS_AWAY: _PARTS,
    Kind.NOT_RUNNING: _PROCESSES,
    Kind.PROCESS_SILENT: _PROCESSES,
    Kind.QUEUE_WITHOUT_CONSUMER: _PROCESSES,
    Kind.MIXED_VERSIONS: _PROCESSES,
    Kind.CLOCK_OFF: _PROCESSES,
    Kind.SPOOL_WAITS: _PARTS,
    Kind.SPOOL_LOST: _JOBS,
    Kind.DISK_FULL: _PARTS,
    Kind.STORE_EMPTY: _PARTS,
    Kind.STORE_AWAY: _PARTS,
    Kind.MAILS_GO_NOWHERE: _OUTBOX,
    Kind.SENDER_NOT_SET: _OUTBOX,
    Kind.OPERATOR_NOT_REACHED: _OUTBOX,
    Kind.OPERATOR_NOT_SET: PageLink("/console/outbox?channel=operator", "Messages to the operator"),
    Kind.MESSAGE_WAITS: _MAILS,
    Kind.MESSAGE_FAILED: _FAILED_MAILS,
    Kind.OWNER_UNDELIVERABLE: _FAILED_MAILS,
    Kind.DISABLING_WAITS: PageLink("/console/incidents?action=disabling", "Incidents"),
    Kind.REPORTS_WAIT: PageLink("/console/decisions", "Decisions"),
    Kind.STALLED: PageLink("/console/jobs?state=running", "Running jobs"),
    Kind.JOBS_WAIT: PageLink("/console/jobs?state=queued", "Queued jobs"),
    Kind.DROPPED: _SOURCES,
    Kind.SOURCE_ERROR: _SOURCES,
    Kind.SOURCE_STALE: _SOURCES,
    Kind.SOURCE_SILENT: _SOURCES,
    Kind.SOURCE_BEHIND: _JOBS,
    Kind.SOURCE_INCOMPLETE: PageLink("/console/sources#gaps", "Gaps"),
    Kind.CREDENTIAL_REJECTED: _QUOTAS,
    Kind.REQUESTS_LIMITED: _QUOTAS,
    Kind.HOST_FAILS: _SOURCES,
    Kind.CANARY_LOST: _CANARIES,
    Kind.CANARY_LATE: _CANARIES,
    Kind.CANARY_NOT_PLANTED: _CANARIES,
}
"""The console page on which an operator can act, by kind of problem."""
_CANARY = "see whether its source is polled, whether jobs wait, and whether the token store answers"
ADVICE: dict[Kind, str] = {
    Kind.DISABLING_WAITS: "bring the token store back: the disables are repeated until it answers",
    Kind.STORE_AWAY: "bring the token store back: the tokens are looked up as soon as it answers",
    Kind.STORE_EMPTY: "import the tokens of your API, or connect the token store that has them",
    Kind.OPERATOR_NOT_REACHED: "repair the receiver or correct its setting: the messages are sent again by themselves",
    Kind.MESSAGE_WAITS: "bring the mail server back: the messages are sent as soon as it accepts mails",
    Kind.MESSAGE_FAILED: "correct what the error names, then try again",
    Kind.OWNER_UNDELIVERABLE: (
        "correct or add the address in the token store, then try again; or tell the owner in another way and close the"
        " incident"
    ),
    Kind.CANARY_LOST: _CANARY,
    Kind.CANARY_LATE: _CANARY,
}
"""Advice for users of the console, by kind of problem. It replaces advice that names a command."""
TITLES = {
    Kind.REQUESTS_LIMITED: "GitHub limits requests",
    Kind.PROCESS_SILENT: "Processes are silent",
    Kind.QUEUE_WITHOUT_CONSUMER: "Queues have no consumer",
    Kind.MESSAGE_WAITS: "Messages wait",
    Kind.MESSAGE_FAILED: "Messages failed",
    Kind.OPERATOR_NOT_REACHED: "The operator cannot be reached",
    Kind.STALLED: "Work makes no progress",
}
"""The headings of groups of problems. The default is the kind's name."""
STOPPING = tuple(Kind)[: tuple(Kind).index(Kind.NOT_RUNNING) + 1]
PEOPLE = (
    Kind.STORE_EMPTY,
    Kind.DISABLING_WAITS,
    Kind.STORE_AWAY,
    Kind.REPORTS_WAIT,
    Kind.MESSAGE_WAITS,
    Kind.MESSAGE_FAILED,
    Kind.OPERATOR_NOT_REACHED,
    Kind.OWNER_UNDELIVERABLE,
)
"""The problems that keep a leaked token live or delay a message to a person."""


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """All problems of one kind.

    Attributes:
        title: The heading.
        page: The page on which the operator can act.
    """

    kind: Kind
    title: str
    problems: Sequence[Problem]
    page: PageLink

    @property
    def advice(self) -> Sequence[str]:
        """Return the advice for the group's problems, without repetitions."""
        return list(dict.fromkeys(one.todo for one in self.problems))


def advised(problem: Problem) -> Problem:
    """Return the problem with advice for users of the console, because not all of them can run commands."""
    is_command = "r8scan " in problem.todo
    return replace(problem, todo=ADVICE[problem.kind]) if is_command and problem.kind in ADVICE else problem


def grouped(problems: Sequence[Problem]) -> list[ProblemGroup]:
    """Return the problems in groups by kind, the most urgent kind first."""
    by_kind: dict[Kind, list[Problem]] = {}
    for one in problems:
        by_kind.setdefault(one.kind, []).append(one)
    return [
        ProblemGroup(kind, TITLES.get(kind, _words(kind)), by_kind[kind], PAGES.get(kind, PageLink()))
        for kind in sorted(by_kind, key=_rank)
    ]


def _rank(kind: Kind) -> tuple[bool, bool, int]:
    return (kind not in STOPPING, kind not in PEOPLE, list(Kind).index(kind))


def _words(kind: Kind) -> str:
    return kind.replace("_", " ").capitalize()

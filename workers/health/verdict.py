"""Says in one sentence whether the service works."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from scanner.records.states import EnforceMode
from workers.health.problems import DECISIONS, Kind, counted, span
from workers.health.processes import SILENT_SECONDS, has_consumer, is_alive, polling_since
from workers.health.rows import Overview
from workers.health.sources import FIRST_POLL_WITHIN, RETRIED
from workers.queues import BEAT, WEB

STOPPERS = (
    Kind.DATABASE_AWAY,
    Kind.DATABASE_VERSION,
    Kind.DATABASE_READ_ONLY,
    Kind.REDIS_AWAY,
    Kind.NOT_RUNNING,
    Kind.STORE_EMPTY,
    Kind.DISABLING_WAITS,
    Kind.STORE_AWAY,
)
"""Problems that keep the service from finding or disabling tokens, the most general first."""
OF_DATABASE = (Kind.DATABASE_AWAY, Kind.DATABASE_VERSION, Kind.DATABASE_READ_ONLY)
OF_TOKENS = (Kind.STORE_EMPTY, Kind.DISABLING_WAITS, Kind.STORE_AWAY)
"""Problems that explain why the service does not work, but only if all its processes run."""
WHY_NOT_POLLED = (
    Kind.CREDENTIAL_REJECTED,
    Kind.HOST_FAILS,
    Kind.SOURCE_ERROR,
    Kind.SOURCE_SILENT,
    Kind.STALLED,
    Kind.REQUESTS_LIMITED,
)
"""Problems that can prevent all polling, the most likely cause first."""
FAILED_WITHIN = timedelta(seconds=20)
"""If all sources fail, the service does not work as soon as the latest successful poll is older than this.

Shorter failures are usually over before anyone can act. A request that gets no response is given up after this time.
"""
NEEDED = {
    "polling": "no source is polled, because no poller runs",
    "scanning": "no push is read, because no scanner runs",
    "responding": "no found token is disabled, because no responder runs",
    "notifying": "nobody is notified, because no responder runs",
}
"""For each queue, a sentence that says what does not happen while no worker consumes it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the service works.

    Attributes:
        works: Whether new leaks are found and handled. If True, there may still be smaller problems.
        problems: The number of current problems, without decisions that wait for the operator.
        sentence: The summary for people, without a final full stop.
        starts: Whether the service was just started and has polled no source yet.
    """

    works: bool
    problems: int
    sentence: str
    starts: bool = False


def verdict(found: Overview) -> Verdict:
    """Return whether the service works. If it does not, the `sentence` gives the cause."""
    number = sum(1 for one in found.problems if one.kind not in DECISIONS)
    with_problems = f", with {counted(number, 'problem')}" if number else ""
    if found.starting_seconds is not None and not any(one.kind in OF_DATABASE for one in found.problems):
        ago = span(found.starting_seconds)
        return Verdict(False, number, f"Starting{with_problems}: started {ago} ago, not all processes run yet", True)
    if cause := _cause(found):
        return Verdict(False, number, f"NOT WORKING: {cause}")
    if not _polled(found) or found.is_github_away:
        since, has_success = _unpolled_since(found)
        if found.at - since > (FAILED_WITHIN if has_success else FIRST_POLL_WITHIN):
            return Verdict(False, number, f"NOT WORKING: {_why_not_polled(found, found.at - since)}")
        if not has_success:
            ago = span(max(found.at - since, timedelta()))
            return Verdict(False, number, f"Starting{with_problems}: started {ago} ago, no source is polled yet", True)
    return Verdict(True, number, f"Working{with_problems}: {_mode(found)}, {_polled_words(found)}, {_waits(found)}")


def _cause(found: Overview) -> str | None:
    """Return why the service does not work and what to do, or None if it works."""
    kinds = {one.kind: one for one in reversed(found.problems)}
    stopper = next((kinds[kind] for kind in STOPPERS if kind in kinds), None)
    if stopper is not None and stopper.kind not in OF_TOKENS:
        return f"{stopper.sentence}; {stopper.todo}"
    start = found.configuration.how_to_start
    # Leave out the web server and beat (the scheduler), because they do not search for tokens.
    workers = [one for one in found.processes if one.role not in (WEB, BEAT)]
    silent = min((one.silent_seconds for one in workers), default=None)
    if silent is None:
        return f"no worker runs; {start}"
    if silent > SILENT_SECONDS:
        return f"no worker runs, the last was seen {span(silent)} ago; {start}"
    if not is_alive(found.processes, BEAT):
        return f"no source is polled, because beat does not run; {start}"
    missing = next((words for queue, words in NEEDED.items() if not has_consumer(found.processes, queue)), None)
    if missing:
        return f"{missing}; {start}"
    if stopper is not None:
        return f"{stopper.sentence}; {stopper.todo}"
    if not any(one.is_on for one in found.sources):
        return "no source is on; set R8SCAN_SOURCES"
    return None


def _mode(found: Overview) -> str:
    return "disabling" if found.configuration.enforce == EnforceMode.DISABLE else "observing only, disabling nothing"


def _polled(found: Overview) -> list[str]:
    """Return the names of the sources whose latest poll was successful and recent."""
    silent = {one.subject for one in found.problems if one.kind in (Kind.SOURCE_SILENT, Kind.SOURCE_ERROR)}
    return [
        one.source
        for one in found.sources
        if one.is_on and one.last_success_at and not one.error and one.source not in silent
    ]


def _polled_words(found: Overview) -> str:
    return f"{len(_polled(found))} of {sum(one.is_on for one in found.sources)} sources polled"


def _unpolled_since(found: Overview) -> tuple[datetime, bool]:
    """Return the time of the last successful poll and True. Without one since the service's start, return the start and
    False.
    """
    began = polling_since(found.processes) or found.at
    last = max((one.last_success_at for one in found.sources if one.is_on and one.last_success_at), default=began)
    return max(last, began), last > began


def _why_not_polled(found: Overview, age: timedelta) -> str:
    sentence = f"no source could be polled for {span(age)}"
    causes = [one for one in found.problems if one.kind in WHY_NOT_POLLED]
    # Prefer a source that worked before or is tried again. A source that never worked may only lack a setting.
    problem = min(
        causes, key=lambda one: (WHY_NOT_POLLED.index(one.kind), one.since is None, one.todo != RETRIED), default=None
    )
    return f"{sentence}: {problem.sentence}; {problem.todo}" if problem else f"{sentence}; run r8scan doctor"


def _waits(found: Overview) -> str:
    """Return the operator's open decisions as text, such as "2 tokens wait for your decision"."""
    decisions = found.decisions
    number = decisions.held + decisions.protected + decisions.flagged
    if number:
        return f"{counted(number, 'token waits', 'tokens wait')} for your decision"
    return "the brake holds reports" if decisions.brake_closed_at else "nothing waits for you"

"""A check of `r8scan doctor`, and a function that runs checks with a time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from scanner.detection import redact
from scanner.records.database import is_unavailable
from scanner.settings import SettingsError
from workers.health.broker_state import reason

CHECK_SECONDS = 20.0
"""The time limit of a check. It is longer than the limits of the clients that checks use."""
MAX_SENTENCE_LENGTH = 300
DATABASE = "database"
"""The name of the check of the database, which other checks need."""


class State(StrEnum):
    """The outcome of a check, as printed by `r8scan doctor --json`."""

    OK = "ok"
    FAILED = "failed"
    OFF = "off"
    """The check was not run, because the settings switch off the thing to check."""
    SKIPPED = "skipped"
    """The check was not run, because another check that must pass first has failed."""


class Wrong(Exception):
    """Raised by a check that fails. `sentence` says what is wrong, `todo` says what to do. Both are one line without
    secrets.
    """

    def __init__(self, sentence: str, todo: str) -> None:
        super().__init__(sentence)
        self.sentence, self.todo = sentence, todo


class Off(Exception):
    """Raised if the thing to check is switched off. The text names the setting that switches it on."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one thing that the service needs.

    Attributes:
        name: What is checked.
        ask: Performs the check and returns one line about the result. It may raise Wrong or Off.
        needs: Names of checks that must pass before this check is run.
    """

    name: str
    ask: Callable[[], str]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a check. `todo` says what to do, and is empty unless the check failed."""

    check: str
    state: State
    sentence: str
    todo: str = ""


def run(checks: Sequence[Check], *, seconds: float = CHECK_SECONDS) -> Iterator[Result]:
    """Run the checks in parallel and yield their results in the given order. A check fails if it takes longer than
    `seconds`.
    """
    done: dict[str, Result] = {}
    waiting = list(checks)
    while waiting:
        ready = [one for one in waiting if all(name in done for name in one.needs)]
        waiting = [one for one in waiting if one not in ready]
        begun = [(one, _begin(one, done)) for one in ready]
        deadline = time.monotonic() + seconds
        for one, attempt in begun:
            done[one.name] = attempt.result(one.name, deadline)
    for one in checks:
        yield done[one.name]


class _Attempt:
    """A check in a daemon thread, which does not keep the process alive."""

    def __init__(self, check: Check) -> None:
        self._ended = threading.Event()
        self._found: Result | None = None
        self._check = check
        threading.Thread(target=self._run, name=f"check {check.name}", daemon=True).start()

    def _run(self) -> None:
        self._found = _result(self._check)
        self._ended.set()

    def result(self, name: str, deadline: float) -> Result:
        """Return the check's result. A check that runs past `deadline` has failed."""
        self._ended.wait(max(deadline - time.monotonic(), 0.0))
        if self._found is None:
            sentence = "it did not answer in time"
            return Result(name, State.FAILED, sentence, "look for a firewall that drops packets, or a hung server")
        return self._found


class _Skipped:
    """Replaces the attempt of a check that was not run, because a check that it needs did not pass."""

    def __init__(self, because: str) -> None:
        self._because = because

    def result(self, name: str, deadline: float) -> Result:
        """Return a result that names the check that did not pass."""
        del deadline
        return Result(name, State.SKIPPED, f"not checked, because the check of {self._because} failed")


def _begin(check: Check, done: dict[str, Result]) -> _Attempt | _Skipped:
    failed = next((name for name in check.needs if done[name].state is not State.OK), None)
    return _Attempt(check) if failed is None else _Skipped(failed)


def _result(check: Check) -> Result:
    try:
        return Result(check.name, State.OK, _line(check.ask()))
    except Off as err:
        return Result(check.name, State.OFF, _line(str(err)))
    except Wrong as err:
        return Result(check.name, State.FAILED, _line(err.sentence), _line(err.todo))
    except SettingsError as err:
        return Result(check.name, State.FAILED, _line(str(err)), "correct the setting")
    except Exception as err:  # noqa: BLE001 - one check that fails must not hide the results of the others
        if is_unavailable(err) and check.name == DATABASE:
            todo = "correct R8SCAN_DATABASE_URL, or R8SCAN_STATE_DIR, in which it is by default"
            return Result(check.name, State.FAILED, f"the database cannot be used ({_line(reason(err))})", todo)
        if is_unavailable(err):
            return Result(check.name, State.FAILED, "the database cannot be used", "see the check of the database")
        # The text of an unexpected error may contain a password, so show only the error's type.
        return Result(check.name, State.FAILED, f"it failed with {type(err).__name__}", "report this as a bug")


def _line(text: str) -> str:
    return redact(" ".join(text.split()))[:MAX_SENTENCE_LENGTH]

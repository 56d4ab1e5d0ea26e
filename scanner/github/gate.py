"""Asked before every request to GitHub, told of every answer: spent budgets and hosts that fail are left alone.

What one worker learns, all know: a `Ledger` shares it. Without one, or while it is away, each process knows its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import httpx

from scanner.github.circuits import FAILURES_TO_OPEN
from scanner.github.errors import BadCredential, GitHubError, NotFound, RateLimited, Unavailable
from scanner.github.rate_limit import (
    MAX_WAIT_SECONDS,
    SECONDARY_LIMIT_SECONDS,
    is_limit,
    rate_limit_of,
    retry_after,
    seconds_to_wait,
)
from scanner.github.request_rate import RateBounds, RateLedger, RateLimiter

OPEN_SECONDS = 60.0
REJECTED_SECONDS = 60.0
SHARE_SECONDS = 1.0
"""How old what the others know may be, and how often what changes little is shared."""

T = TypeVar("T")

API_RESOURCES = ("core", "search", "code_search", "graphql")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Budget:
    """Of one credential and resource. Times in seconds since the epoch; 0 means none. `reason` of a block: a word."""

    credential: str
    resource: str
    limit: int = 0
    remaining: int = 0
    resets_at: float = 0.0
    blocked_until: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Circuit:
    """Of one host: failures in a row, and until when it is left alone (seconds since the epoch)."""

    host: str
    failures: int = 0
    open_until: float = 0.0


class Ledger(RateLedger, Protocol):
    """What all workers share. Each method may raise whatever its storage raises: it is logged and done without."""

    def read(self) -> tuple[list[Budget], list[Circuit]]:
        """Everything that is known."""

    def write_budget(self, budget: Budget) -> None:
        """Keep this for the others."""

    def write_circuit(self, circuit: Circuit) -> None:
        """Keep this for the others."""

    def take_probe(self, circuit: Circuit, now: float) -> bool:
        """Keep the circuit, unless its host is left alone already; True for the one caller that did."""


class Gate:
    """Decides on requests of one credential. Safe to share between threads."""

    def __init__(
        self,
        credential: str = "none",
        ledger: Ledger | None = None,
        clock: Callable[[], float] = time.time,
        *,
        git_rate: RateBounds | None = None,
    ) -> None:
        self._credential = credential
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._budgets: dict[str, Budget] = {}
        self._circuits: dict[str, Circuit] = {}
        self._read_at = 0.0
        self._shared_at: dict[str, float] = {}
        # GitHub publishes no quota for git, so its rate is found out; without bounds it is not limited.
        self._limiters = {"git": RateLimiter(credential, "git", git_rate, ledger)} if git_rate else {}

    def admit(self, host: str, resource: str, reserve: float = 0.0) -> None:
        """Return if the request may go out. RateLimited, BadCredential or Unavailable, with `retry_after`, if not.

        `reserve`: the share of the budget (0 to 1) that this request has to leave to others. What it raises is not
        `asked`.
        """
        try:
            self._decide(host, resource, reserve)
            limiter = self._limiters.get(resource)
            if limiter is not None and limiter.wait():
                # While this request waited for its slot, another one may have been refused.
                self._check_budgets(host, resource, reserve)
        except GitHubError as err:
            err.asked, err.resource = False, resource
            raise

    def _decide(self, host: str, resource: str, reserve: float) -> None:
        now = self._clock()
        self._refresh(now)
        with self._lock:
            circuit = self._circuits.get(host)
        if circuit is not None and circuit.failures >= FAILURES_TO_OPEN:
            self._probe(circuit, now)
        self._check_budgets(host, resource, reserve)

    def _check_budgets(self, host: str, resource: str, reserve: float) -> None:
        now = self._clock()
        with self._lock:
            budgets = [self._budgets.get(name) for name in ("credential", resource)]
        for budget in budgets:
            if budget is not None:
                self._check(budget, host, now, reserve)

    def note(
        self,
        host: str,
        resource: str,
        response: httpx.Response,
        body: bytes = b"",
        *,
        is_whole: bool = True,
        is_retry: bool = False,
    ) -> None:
        """Learn from an answer. `body`: the beginning of a refusal's, where it is at hand.

        Not `is_whole`: its body is still to come, so that it is no success yet. `is_retry`: the call's failure has been
        counted by its first try.
        """
        now = self._clock()
        status = response.status_code
        if status >= 500:
            if not is_retry:
                self.note_failure(host)
        elif is_whole:
            self.note_success(host)
        found = rate_limit_of(response)
        if found is not None and resource in API_RESOURCES:
            self._keep(
                Budget(self._credential, found.resource, found.limit, found.remaining, now + found.resets_in),
                urgent=found.remaining == 0,
            )
            resource = found.resource
        if status == 401 and self._credential != "none" and resource in API_RESOURCES:
            # git may answer 401 for a repository that is gone; the API does so for a bad credential only.
            self.reject()
        elif status == 429 or (status == 403 and is_limit(response, body)):
            self._block(resource, now + seconds_to_wait(response), "rate_limited")
        elif status == 503 and (seconds := retry_after(response)):
            self._block(resource, now + seconds, "unavailable")

    def note_result(self, host: str, resource: str, err: GitHubError | None) -> None:
        """Learn from a request that somebody else made for us: what it came to, None if all went well."""
        if isinstance(err, RateLimited):
            self._block(resource, self._clock() + (err.retry_after or SECONDARY_LIMIT_SECONDS), "rate_limited")
        elif err is None or isinstance(err, NotFound):
            self.note_success(host)
        elif isinstance(err, Unavailable) and err.reason in ("connection", "http_5xx"):
            self.note_failure(host)

    def note_broken(self, resource: str) -> None:
        """An answer broke off, as GitHub's do when it sheds load: many of them lower the resource's rate."""
        if (limiter := self._limiters.get(resource)) is not None:
            limiter.note_broken()

    def note_failure(self, host: str) -> None:
        """A request did not come back, broke off, or came back with 5xx."""
        now = self._clock()
        with self._lock:
            circuit = self._circuits.get(host, Circuit(host))
            circuit = replace(circuit, failures=min(circuit.failures + 1, 1000))
            opens = circuit.failures >= FAILURES_TO_OPEN and circuit.open_until <= now
            if opens:
                circuit = replace(circuit, open_until=now + OPEN_SECONDS)
            self._circuits[host] = circuit
        if opens:
            _log.error("%s fails: it is asked once a minute until it answers", host, extra={"host": host})
            self._share(lambda ledger: ledger.write_circuit(circuit))

    def reject(self) -> None:
        """What gives the credential gives none: nobody asks for it for a minute."""
        self._block("credential", self._clock() + REJECTED_SECONDS, "rejected")

    def forgive(self) -> None:
        """The credential has been made anew: what was said of the old one says nothing of it."""
        self._keep(Budget(self._credential, "credential", reason="renewed"), urgent=True)

    def is_rejected(self) -> bool:
        """Whether GitHub has rejected the credential just now."""
        with self._lock:
            budget = self._budgets.get("credential")
        return budget is not None and budget.blocked_until > self._clock()

    def seconds_a_request(self, resource: str) -> float:
        """The pace at which the budget lasts until it is full again; 0 where none is known."""
        now = self._clock()
        with self._lock:
            budget = self._budgets.get(resource)
        if budget is None or not budget.limit or budget.resets_at <= now:
            return 0.0
        return (budget.resets_at - now) / max(budget.remaining, 1)

    def _probe(self, circuit: Circuit, now: float) -> None:
        """Let one request a minute through to a host that fails."""
        if now < circuit.open_until <= now + MAX_WAIT_SECONDS:
            raise _left_alone(circuit, circuit.open_until - now)
        taken = replace(circuit, open_until=now + OPEN_SECONDS)
        with self._lock:
            if self._circuits.get(circuit.host) != circuit:
                raise _left_alone(circuit, OPEN_SECONDS)
            self._circuits[circuit.host] = taken
        if self._share(lambda ledger: ledger.take_probe(taken, now)) is False:
            raise _left_alone(circuit, OPEN_SECONDS)

    def _check(self, budget: Budget, host: str, now: float, reserve: float) -> None:
        blocked = budget.blocked_until - now
        if 0 < blocked <= MAX_WAIT_SECONDS:
            if budget.reason == "rejected":
                message = f"{host} rejects the credential {self._credential}: replace it"
                raise BadCredential("bad_credential", message, retry_after=blocked)
            raise RateLimited("rate_limited", f"{host} limits our requests", retry_after=blocked)
        until_reset = budget.resets_at - now
        if budget.limit and 0 < until_reset <= MAX_WAIT_SECONDS:
            if budget.remaining <= 0:
                message = f"the {budget.resource} budget of {self._credential} is spent"
                raise RateLimited("budget_spent", message, retry_after=until_reset)
            if budget.remaining <= budget.limit * reserve:
                message = f"the rest of the {budget.resource} budget of {self._credential} is kept for polling"
                raise RateLimited("budget_reserved", message, retry_after=until_reset)

    def note_success(self, host: str) -> None:
        """The host answered, to the end."""
        with self._lock:
            circuit = self._circuits.get(host)
            if circuit is None or not circuit.failures:
                return
            closed = self._circuits[host] = Circuit(host)
        if circuit.failures >= FAILURES_TO_OPEN:
            _log.warning("%s answers again", host, extra={"host": host})
            self._share(lambda ledger: ledger.write_circuit(closed))

    def _block(self, resource: str, until: float, reason: str) -> None:
        with self._lock:
            budget = self._budgets.get(resource, Budget(self._credential, resource))
        if reason == "rate_limited" and (limiter := self._limiters.get(resource)) is not None:
            limiter.refuse()
        self._keep(replace(budget, blocked_until=until, reason=reason), urgent=True)

    def _keep(self, budget: Budget, *, urgent: bool) -> None:
        now = self._clock()
        with self._lock:
            before = self._budgets.get(budget.resource)
            if before is not None and not budget.reason:
                budget = replace(budget, blocked_until=before.blocked_until, reason=before.reason)
                if budget.blocked_until <= now:
                    budget = replace(budget, blocked_until=0.0, reason="")
                # Answers overtake each other: within one window the smaller number is the newer one.
                if abs(before.resets_at - budget.resets_at) < 5 and before.remaining < budget.remaining:
                    budget = replace(budget, remaining=before.remaining)
            self._budgets[budget.resource] = budget
            is_due = urgent or now - self._shared_at.get(budget.resource, 0.0) >= SHARE_SECONDS
            if is_due:
                self._shared_at[budget.resource] = now
        if is_due:
            self._share(lambda ledger: ledger.write_budget(budget))

    def _refresh(self, now: float) -> None:
        with self._lock:
            if self._ledger is None or 0 <= now - self._read_at < SHARE_SECONDS:
                return
            self._read_at = now
        known = self._share(lambda ledger: ledger.read())
        if known is None:
            return
        budgets, circuits = known
        with self._lock:
            for budget in budgets:
                own = self._budgets.get(budget.resource)
                if budget.credential == self._credential and (own is None or _is_news(budget, own)):
                    self._budgets[budget.resource] = budget
            for circuit in circuits:
                known_here = self._circuits.get(circuit.host)
                # Failures below the threshold are counted by each process for itself.
                if circuit.failures >= FAILURES_TO_OPEN or (
                    known_here is not None and known_here.failures >= FAILURES_TO_OPEN
                ):
                    self._circuits[circuit.host] = circuit

    def _share(self, action: Callable[[Ledger], T]) -> T | None:
        """None when there is no ledger, or it is away: every process then goes by what it knows itself."""
        if self._ledger is None:
            return None
        try:
            return action(self._ledger)
        except Exception as err:  # noqa: BLE001 - storage is not ours; a limit that is not shared is still kept here
            _log.warning("budgets are not shared: %s", type(err).__name__)
            return None


def _is_news(other: Budget, own: Budget) -> bool:
    if other.blocked_until > own.blocked_until or other.resets_at > own.resets_at + 5:
        return True
    return abs(other.resets_at - own.resets_at) <= 5 and other.remaining < own.remaining


def _left_alone(circuit: Circuit, seconds: float) -> Unavailable:
    message = f"{circuit.host} has failed {circuit.failures} times in a row and is left alone for {seconds:.0f} s"
    return Unavailable("circuit_open", message, retry_after=seconds)

"""The gate: refuses requests to GitHub while a quota is exhausted or the host is failing."""

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
"""While a host is failing, one request in this time tests whether it answers again."""
REJECTED_SECONDS = 60.0
"""For this time, no request is sent with a credential that GitHub has rejected."""
SHARE_SECONDS = 1.0
"""The gate reads the state that all workers share, and writes changes that are not urgent, at most once in this time.
"""

T = TypeVar("T")

API_RESOURCES = ("core", "search", "code_search", "graphql")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RateBudget:
    """A rate limit of GitHub for one credential, as it was last seen.

    Attributes:
        credential: The credential's label.
        resource: GitHub's name of the limit, for example "core". "credential" stands for all limits.
        limit: Requests that GitHub allows in one period. 0: unknown.
        remaining: Requests that are left in the current period.
        resets_at: End of the current period, in seconds since the epoch. 0: unknown.
        blocked_until: Time until which no request is sent, in seconds since the epoch. 0: not blocked.
        reason: Why no request is sent: "rate_limited", "unavailable" or "rejected". "" if requests are sent.
    """

    credential: str
    resource: str
    limit: int = 0
    remaining: int = 0
    resets_at: float = 0.0
    blocked_until: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit breaker of one host, which stops requests after repeated failures.

    Attributes:
        open_until: Time until which no request is sent, in seconds since the epoch. 0: requests are sent.
    """

    host: str
    failures: int = 0
    open_until: float = 0.0


class Ledger(RateLedger, Protocol):
    """Storage in which all workers share the state of rate limits and of failing hosts.

    Each method may raise any exception. Callers log it and continue without the storage.
    """

    def read(self) -> tuple[list[RateBudget], list[Circuit]]:
        """Return all stored rate limits and circuit breakers."""

    def write_budget(self, budget: RateBudget) -> None:
        """Store a rate limit for the other workers."""

    def write_circuit(self, circuit: Circuit) -> None:
        """Store a circuit breaker for the other workers."""

    def take_probe(self, circuit: Circuit, now: float) -> bool:
        """Store the open circuit breaker, unless another worker has stored one that blocks requests at the time `now`.

        Return whether it was stored. Only then may the caller send a request that tests the host.
        """


class RequestGate:
    """Allows or refuses the requests with one credential. Threads can share it.

    Args:
        credential: The credential's label; "none" for anonymous requests.
        ledger: Storage that is shared with other workers.
        clock: Returns the time in seconds since the epoch.
        git_rate: The initial and the highest rate of requests to the git server. None: no limit.
    """

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
        self._budgets: dict[str, RateBudget] = {}
        self._circuits: dict[str, Circuit] = {}
        self._read_at = 0.0
        self._shared_at: dict[str, float] = {}
        # GitHub publishes no quota for git requests, so this limiter measures which rate GitHub accepts.
        self._limiters = {"git": RateLimiter(credential, "git", git_rate, ledger)} if git_rate else {}

    def admit(self, host: str, resource: str, reserve: float = 0.0) -> None:
        """Wait until the request rate allows another request. Raise an error if the request may not be sent.

        Args:
            host: The request's host, with the port if it is not the default port.
            resource: The quota that the request counts against, for example "core".
            reserve: The share of the quota (0 to 1) that this request must leave to other work.

        Raises:
            RateLimited: The quota is exhausted, blocked, or reserved for other work.
            BadCredential: GitHub has just rejected the credential.
            Unavailable: The host has failed repeatedly.
        """
        try:
            self._decide(host, resource, reserve)
            limiter = self._limiters.get(resource)
            if limiter is not None and limiter.wait():
                # Check again, because GitHub may have refused another request during the wait.
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
        """Record what a response says about the host and the quota.

        Args:
            body: The beginning of the response's body if GitHub refused the request, otherwise empty.
            is_whole: Whether the body was read to its end. If not, the response is not yet a success.
            is_retry: Whether the request is a retry. A failed retry does not count as another failure.
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
                RateBudget(self._credential, found.resource, found.limit, found.remaining, now + found.resets_in),
                urgent=found.remaining == 0,
            )
            resource = found.resource
        if status == 401 and self._credential != "none" and resource in API_RESOURCES:
            # The API answers 401 only for a bad credential, but the git server also for a deleted repository.
            self.reject()
        elif status == 429 or (status == 403 and is_limit(response, body)):
            self._block(resource, now + seconds_to_wait(response), "rate_limited")
        elif status == 503 and (seconds := retry_after(response)):
            self._block(resource, now + seconds, "unavailable")

    def note_result(self, host: str, resource: str, err: GitHubError | None) -> None:
        """Record whether a git command succeeded.

        Args:
            host: The host to which git sent the requests.
            err: The error, or None if the command succeeded.
        """
        if isinstance(err, RateLimited):
            self._block(resource, self._clock() + (err.retry_after or SECONDARY_LIMIT_SECONDS), "rate_limited")
        elif err is None or isinstance(err, NotFound):
            self.note_success(host)
        elif isinstance(err, Unavailable) and err.reason in ("connection", "http_5xx"):
            self.note_failure(host)

    def note_broken(self, resource: str) -> None:
        """Record a response that broke off. Many broken responses lower the request rate."""
        if (limiter := self._limiters.get(resource)) is not None:
            limiter.note_broken()

    def note_failure(self, host: str) -> None:
        """Record a failure of the host: no response, a broken response, or status 5xx."""
        now = self._clock()
        with self._lock:
            circuit = self._circuits.get(host, Circuit(host))
            circuit = replace(circuit, failures=min(circuit.failures + 1, 1000))
            opens = circuit.failures >= FAILURES_TO_OPEN and circuit.open_until <= now
            if opens:
                circuit = replace(circuit, open_until=now + OPEN_SECONDS)
            self._circuits[host] = circuit
        if opens:
            _log.error("%s keeps failing: one request a minute is sent until it answers", host, extra={"host": host})
            self._share(lambda ledger: ledger.write_circuit(circuit))

    def reject(self) -> None:
        """Refuse all requests with the credential for REJECTED_SECONDS."""
        self._block("credential", self._clock() + REJECTED_SECONDS, "rejected")

    def forgive(self) -> None:
        """Allow requests with the credential again, after its token was replaced."""
        self._keep(RateBudget(self._credential, "credential", reason="renewed"), urgent=True)

    def is_rejected(self) -> bool:
        """Return whether GitHub rejected the credential within the last REJECTED_SECONDS."""
        with self._lock:
            budget = self._budgets.get("credential")
        return budget is not None and budget.blocked_until > self._clock()

    def seconds_a_request(self, resource: str) -> float:
        """Return how many seconds to leave between requests so that the quota lasts until its reset, or 0 if the quota
        is unknown.
        """
        now = self._clock()
        with self._lock:
            budget = self._budgets.get(resource)
        if budget is None or not budget.limit or budget.resets_at <= now:
            return 0.0
        return (budget.resets_at - now) / max(budget.remaining, 1)

    def _probe(self, circuit: Circuit, now: float) -> None:
        """Allow one test request to a failing host every OPEN_SECONDS."""
        if now < circuit.open_until <= now + MAX_WAIT_SECONDS:
            raise _left_alone(circuit, circuit.open_until - now)
        taken = replace(circuit, open_until=now + OPEN_SECONDS)
        with self._lock:
            if self._circuits.get(circuit.host) != circuit:
                raise _left_alone(circuit, OPEN_SECONDS)
            self._circuits[circuit.host] = taken
        if self._share(lambda ledger: ledger.take_probe(taken, now)) is False:
            raise _left_alone(circuit, OPEN_SECONDS)

    def _check(self, budget: RateBudget, host: str, now: float, reserve: float) -> None:
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
        """Record that the host sent a complete response. Requests to it are allowed again."""
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
            budget = self._budgets.get(resource, RateBudget(self._credential, resource))
        if reason == "rate_limited" and (limiter := self._limiters.get(resource)) is not None:
            limiter.refuse()
        self._keep(replace(budget, blocked_until=until, reason=reason), urgent=True)

    def _keep(self, budget: RateBudget, *, urgent: bool) -> None:
        now = self._clock()
        with self._lock:
            before = self._budgets.get(budget.resource)
            if before is not None and not budget.reason:
                budget = replace(budget, blocked_until=before.blocked_until, reason=before.reason)
                if budget.blocked_until <= now:
                    budget = replace(budget, blocked_until=0.0, reason="")
                # Responses may arrive out of order, so keep the smaller remaining quota until its reset.
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
                held = self._budgets.get(budget.resource)
                if budget.credential == self._credential and (held is None or _is_news(budget, held)):
                    self._budgets[budget.resource] = budget
            for circuit in circuits:
                known_here = self._circuits.get(circuit.host)
                # Use the stored circuit breaker if it or the one of this process has opened. Before that, each process
                # counts its own failures.
                if circuit.failures >= FAILURES_TO_OPEN or (
                    known_here is not None and known_here.failures >= FAILURES_TO_OPEN
                ):
                    self._circuits[circuit.host] = circuit

    def _share(self, action: Callable[[Ledger], T]) -> T | None:
        """Call `action` with the shared storage. Return None if there is no storage or the call fails."""
        if self._ledger is None:
            return None
        try:
            return action(self._ledger)
        except Exception as err:  # noqa: BLE001 - the storage may raise anything; this process keeps its limits anyway
            _log.warning("budgets cannot be shared between workers at the moment: %s", type(err).__name__)
            return None


def _is_news(other: RateBudget, known: RateBudget) -> bool:
    if other.blocked_until > known.blocked_until or other.resets_at > known.resets_at + 5:
        return True
    return abs(other.resets_at - known.resets_at) <= 5 and other.remaining < known.remaining


def _left_alone(circuit: Circuit, seconds: float) -> Unavailable:
    message = f"{circuit.host} has failed {circuit.failures} times in a row: no request is sent for {seconds:.0f} s"
    return Unavailable("circuit_open", message, retry_after=seconds)

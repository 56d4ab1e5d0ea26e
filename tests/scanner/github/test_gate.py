"""Tests that the client sends no request that GitHub's earlier answers forbid."""

from __future__ import annotations

import threading
from collections.abc import Callable
from email.utils import formatdate

import httpx
import pytest

from scanner.github.circuits import FAILURES_TO_OPEN
from scanner.github.errors import BadCredential, GitHubError, NotFound, RateLimited, Unavailable
from scanner.github.gate import OPEN_SECONDS, Circuit, RateBudget, RequestGate
from scanner.github.request_rate import RateBounds, RequestRate

HOST = "api.github.example"
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Memory:
    """Stores quotas and failing hosts in memory instead of in the database."""

    def __init__(self) -> None:
        self.budgets: dict[tuple[str, str], RateBudget] = {}
        self.circuits: dict[str, Circuit] = {}
        self.rates: dict[str, RequestRate] = {}
        self.away = False

    def read(self) -> tuple[list[RateBudget], list[Circuit]]:
        self._check()
        return list(self.budgets.values()), list(self.circuits.values())

    def write_budget(self, budget: RateBudget) -> None:
        self._check()
        self.budgets[budget.credential, budget.resource] = budget

    def write_circuit(self, circuit: Circuit) -> None:
        self._check()
        self.circuits[circuit.host] = circuit

    def take_probe(self, circuit: Circuit, now: float) -> bool:
        self._check()
        known = self.circuits.get(circuit.host, Circuit(circuit.host))
        if now < known.open_until <= now + 3600:
            return False
        self.circuits[circuit.host] = circuit
        return True

    def update_rate(
        self, first: RequestRate, change: Callable[[RequestRate, float], RequestRate]
    ) -> tuple[RequestRate, RequestRate, float]:
        self._check()
        before = self.rates.get(first.resource, first)
        self.rates[first.resource] = change(before, NOW)
        return before, self.rates[first.resource], NOW

    def _check(self) -> None:
        if self.away:
            raise ConnectionError("the database is unavailable")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def gates(clock: Clock, memory: Memory) -> tuple[RequestGate, RequestGate]:
    return RequestGate("token", memory, clock), RequestGate("token", memory, clock)


def answer(status: int = 200, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named.setdefault("date", formatdate(NOW, usegmt=True))
    return httpx.Response(status, headers=named, request=httpx.Request("GET", f"https://{HOST}/events"))


def budget(remaining: int, limit: int = 5000, resource: str = "core", seconds: int = 600) -> httpx.Response:
    return answer(
        x_ratelimit_limit=str(limit),
        x_ratelimit_remaining=str(remaining),
        x_ratelimit_reset=str(int(NOW) + seconds),
        x_ratelimit_resource=resource,
    )


def test_a_spent_budget_stops_every_worker_until_it_is_full_again(
    gates: tuple[RequestGate, RequestGate], clock: Clock
) -> None:
    first, second = gates
    first.note(HOST, "core", budget(0))
    for gate in gates:
        with pytest.raises(RateLimited) as caught:
            gate.admit(HOST, "core")
        assert caught.value.reason == "budget_spent"
        assert caught.value.retry_after == 600
        gate.admit(HOST, "code_search")
    clock.now += 601
    second.admit(HOST, "core")


def test_work_that_can_wait_leaves_a_share_of_the_quota_to_polling(gates: tuple[RequestGate, RequestGate]) -> None:
    gates[0].note(HOST, "core", budget(900))
    gates[0].admit(HOST, "core", reserve=0.1)
    with pytest.raises(RateLimited) as caught:
        gates[0].admit(HOST, "core", reserve=0.2)
    assert caught.value.reason == "budget_reserved"
    gates[0].admit(HOST, "core")


@pytest.mark.parametrize(
    ("refusal", "seconds"),
    [
        (answer(429), 60),
        (answer(429, retry_after="30"), 30),
        (answer(403, retry_after="30"), 30),
        (answer(503, retry_after="90"), 90),
    ],
)
def test_a_limit_applies_to_all_workers(
    gates: tuple[RequestGate, RequestGate], clock: Clock, refusal: httpx.Response, seconds: int
) -> None:
    gates[0].note(HOST, "git", refusal)
    with pytest.raises(RateLimited) as caught:
        gates[1].admit(HOST, "git")
    assert caught.value.retry_after == seconds
    clock.now += seconds + 2
    for gate in gates:
        gate.admit(HOST, "git")


def test_a_refusal_other_than_a_rate_limit_blocks_no_other_request(gates: tuple[RequestGate, RequestGate]) -> None:
    gates[0].note(HOST, "git", answer(403), b"Repository access blocked")
    gates[0].admit(HOST, "git")


def test_a_rejected_credential_is_named_and_not_shown_again_for_a_minute(
    gates: tuple[RequestGate, RequestGate], clock: Clock
) -> None:
    gates[0].note(HOST, "core", answer(401))
    for gate in gates:
        with pytest.raises(BadCredential, match="token"):
            gate.admit("github.example", "git")
    clock.now += 61
    gates[1].admit(HOST, "core")


def test_a_401_from_git_alone_does_not_block_the_credential(gates: tuple[RequestGate, RequestGate]) -> None:
    gates[0].note("github.example", "git", answer(401))
    gates[0].admit(HOST, "core")
    assert not gates[0].is_rejected()


def test_an_outage_costs_one_request_a_minute_over_all_workers(
    gates: tuple[RequestGate, RequestGate], clock: Clock
) -> None:
    for _ in range(FAILURES_TO_OPEN):
        gates[0].admit(HOST, "core")
        gates[0].note_failure(HOST)
    asked = 0
    for _ in range(600):
        clock.now += 1
        for gate in gates:
            try:
                gate.admit(HOST, "core")
            except Unavailable:
                continue
            else:
                asked += 1
                gate.note(HOST, "core", answer(503))
    assert asked == 600 // OPEN_SECONDS
    gates[0].admit("github.example", "git")


def test_the_first_success_closes_the_circuit_for_all_workers(
    gates: tuple[RequestGate, RequestGate], clock: Clock
) -> None:
    for _ in range(FAILURES_TO_OPEN):
        gates[0].note_failure(HOST)
    clock.now += OPEN_SECONDS + 1
    gates[1].admit(HOST, "core")
    with pytest.raises(Unavailable):
        gates[0].admit(HOST, "core")
    gates[1].note(HOST, "core", answer(404))
    clock.now += 2
    for gate in gates:
        gate.admit(HOST, "core")


def test_failures_that_are_not_consecutive_open_no_circuit(gates: tuple[RequestGate, RequestGate]) -> None:
    for _ in range(5 * FAILURES_TO_OPEN):
        gates[0].note(HOST, "core", answer(500))
        gates[0].note(HOST, "core", answer(200))
        gates[0].admit(HOST, "core")


def test_without_a_ledger_each_process_uses_its_own_observations(
    gates: tuple[RequestGate, RequestGate], memory: Memory
) -> None:
    memory.away = True
    gates[0].note(HOST, "core", budget(0))
    with pytest.raises(RateLimited):
        gates[0].admit(HOST, "core")
    gates[1].admit(HOST, "core")


def test_a_clock_that_jumps_blocks_nobody_for_longer_than_an_hour(
    gates: tuple[RequestGate, RequestGate], clock: Clock
) -> None:
    gates[0].note(HOST, "core", budget(0))
    gates[0].note(HOST, "git", answer(429))
    for _ in range(FAILURES_TO_OPEN):
        gates[0].note_failure("github.example")
    clock.now -= 86_400
    gates[0].admit(HOST, "core")
    gates[0].admit("raw.example", "git")
    gates[0].admit("github.example", "files")


def test_answers_out_of_order_do_not_raise_the_budget(gates: tuple[RequestGate, RequestGate]) -> None:
    gates[0].note(HOST, "core", budget(0))
    gates[0].note(HOST, "core", budget(3))
    with pytest.raises(RateLimited):
        gates[0].admit(HOST, "core")


def test_requests_are_spread_over_the_rest_of_the_quotas_period(gates: tuple[RequestGate, RequestGate]) -> None:
    assert gates[0].seconds_a_request("core") == 0
    gates[0].note(HOST, "core", budget(10, limit=60, seconds=1200))
    assert gates[0].seconds_a_request("core") == 120


def test_of_many_threads_only_one_sends_the_probe(clock: Clock, memory: Memory) -> None:
    gate = RequestGate("token", memory, clock)
    for _ in range(FAILURES_TO_OPEN):
        gate.note_failure(HOST)
    clock.now += OPEN_SECONDS + 1
    admitted: list[bool] = []

    def ask(admit: Callable[[str, str], None]) -> None:
        try:
            admit(HOST, "core")
            admitted.append(True)
        except Unavailable:
            admitted.append(False)

    threads = [threading.Thread(target=ask, args=(gate.admit,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert admitted.count(True) == 1


def test_a_request_refused_by_the_gate_counts_as_not_sent(gates: tuple[RequestGate, RequestGate]) -> None:
    gate = gates[0]
    gate.note(HOST, "core", answer(401))
    gate.note(HOST, "git", answer(429))
    gate.note(HOST, "search", budget(0, resource="search"))
    for _ in range(FAILURES_TO_OPEN):
        gate.note_failure("raw.example")
    for host, resource in ((HOST, "core"), (HOST, "git"), (HOST, "search"), ("raw.example", "files")):
        with pytest.raises(GitHubError) as caught:
            gate.admit(host, resource)
        assert not caught.value.asked


def test_an_answer_is_a_success_only_after_its_whole_body(gates: tuple[RequestGate, RequestGate]) -> None:
    gate = gates[0]
    for _ in range(FAILURES_TO_OPEN):
        gate.admit(HOST, "core")
        gate.note(HOST, "core", answer(), is_whole=False)
        gate.note_failure(HOST)
    with pytest.raises(Unavailable):
        gate.admit(HOST, "core")


@pytest.mark.parametrize(
    ("err", "refused"),
    [
        (RateLimited("rate_limited", "limited", retry_after=30), True),
        (Unavailable("connection", "cannot be reached"), True),
        (NotFound("blocked", "blocked"), False),
        (Unavailable("clone_failed", "a commit is gone"), False),
        (None, False),
    ],
)
def test_results_of_git_processes_count_as_well(
    gates: tuple[RequestGate, RequestGate], err: GitHubError | None, refused: bool
) -> None:
    for _ in range(FAILURES_TO_OPEN):
        gates[0].note_result(HOST, "git", err)
    if refused:
        with pytest.raises(GitHubError):
            gates[1].admit(HOST, "git")
    else:
        gates[1].admit(HOST, "git")


def test_only_a_limit_lowers_the_rate_of_git(clock: Clock, memory: Memory) -> None:
    gate = RequestGate("token", memory, clock, git_rate=RateBounds(10.0, 10.0))
    gate.admit(HOST, "git")
    gate.note(HOST, "git", answer(403), b"Repository access blocked")
    gate.note(HOST, "git", answer(503, retry_after="1"))
    gate.note(HOST, "core", answer(429, retry_after="1"))
    assert memory.rates["git"].per_second == 10.0
    gate.note(HOST, "git", answer(429, retry_after="1"))
    assert memory.rates["git"].per_second == 5.0

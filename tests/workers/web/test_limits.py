"""Tests for the web server's limits on connections, bodies, rates and threads."""

from __future__ import annotations

import threading

import anyio
import pytest

from scanner.compromise.networks import connection_keys, rate_keys
from scanner.settings import SettingsError, load_settings
from workers.web import rates
from workers.web.bodies import BodyBudget
from workers.web.connections import ConnectionEntry, ConnectionTable
from workers.web.pools import Pool
from workers.web.rates import Rate, RateLimiter
from workers.web.requests import RequestRefused
from workers.web.server import _networks


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Visitors:
    """Clients with open connections to the server. `closed` has the names of those whose connection was closed."""

    def __init__(self, table: ConnectionTable) -> None:
        self.table = table
        self.closed: list[str] = []

    def come(self, host: str, name: str = "") -> ConnectionEntry | None:
        return self.table.admit(host, lambda: self.closed.append(name or host))


def test_an_address_at_its_limit_loses_its_oldest_waiting_connection() -> None:
    visitors = Visitors(ConnectionTable(total=10, per_address=2))
    first, second = visitors.come("203.0.113.1", "first"), visitors.come("203.0.113.1", "second")
    assert first is not None
    assert second is not None
    visitors.table.wait(first, is_waiting=False)
    assert visitors.come("203.0.113.1", "third") is not None
    assert (visitors.closed, len(visitors.table)) == (["second"], 2)
    assert visitors.come("203.0.113.2") is not None


def test_a_connection_that_is_being_answered_is_never_evicted() -> None:
    visitors = Visitors(ConnectionTable(total=10, per_address=2))
    for _ in range(2):
        entry = visitors.come("203.0.113.1")
        assert entry is not None
        visitors.table.wait(entry, is_waiting=False)
    assert visitors.come("203.0.113.1") is None
    assert visitors.closed == []


def test_a_full_server_closes_a_connection_of_the_heaviest_network() -> None:
    visitors = Visitors(ConnectionTable(total=12, per_address=4))
    for number in range(8):
        visitors.come(f"198.51.100.{number}", "heavy")
    for number in range(4):
        visitors.come(f"192.0.2.{number}", "light")
    for number in range(4):
        assert visitors.come(f"203.0.113.{number}", "new") is not None
    assert set(visitors.closed) == {"heavy"}
    assert len(visitors.table) == 12


def test_the_heaviest_network_displaces_only_its_own_connections() -> None:
    visitors = Visitors(ConnectionTable(total=6, per_address=6))
    for number in range(4):
        visitors.come(f"198.51.100.{number}", "heavy")
    for number in range(2):
        visitors.come(f"192.0.2.{number}", "light")
    for _ in range(20):
        visitors.come("198.51.100.9", "heavy")
    assert set(visitors.closed) == {"heavy"}


def test_a_connection_that_has_sent_requests_is_kept_longer() -> None:
    visitors = Visitors(ConnectionTable(total=10, per_address=2))
    client = visitors.come("203.0.113.1", "client")
    assert client is not None
    client.served = 1
    for _ in range(5):
        visitors.come("203.0.113.1", "stranger")
    assert "client" not in visitors.closed


def test_a_trusted_proxy_may_hold_more_connections_than_another_address() -> None:
    visitors = Visitors(ConnectionTable(_networks("10.0.0.0/8,::1"), total=10, per_address=2))
    assert all(visitors.come("10.1.2.3") for _ in range(10))
    assert visitors.closed == []


def test_released_connections_leave_no_entry() -> None:
    visitors = Visitors(ConnectionTable(total=3, per_address=3))
    entries = [visitors.come(f"203.0.113.{number}") for number in range(3)]
    for entry in (*entries, *entries):
        assert entry is not None
        visitors.table.release(entry)
    assert len(visitors.table) == 0
    assert not visitors.table._addresses
    assert not visitors.table._networks


@pytest.mark.parametrize(
    ("client", "counted_for_rates", "counted_for_connections"),
    [
        ("203.0.113.7", ("203.0.113.0/24",), ("203.0.113.7/32", "203.0.113.0/24")),
        ("::ffff:203.0.113.7", ("203.0.113.0/24",), ("203.0.113.7/32", "203.0.113.0/24")),
        ("2001:db8:1:2:3::4", ("2001:db8:1:2::/64", "2001:db8:1::/48"), ("2001:db8:1:2::/64", "2001:db8:1::/48")),
        ("nonsense", ("unknown",), ("unknown", "unknown")),
    ],
)
def test_ipv6_and_ipv4_are_counted_by_their_networks(
    client: str, counted_for_rates: tuple[str, ...], counted_for_connections: tuple[str, str]
) -> None:
    assert rate_keys(client) == counted_for_rates
    assert connection_keys(client) == counted_for_connections


def test_a_rate_limit_is_used_up_and_refills() -> None:
    clock = Clock()
    limiter = RateLimiter(Rate(3, 60), Rate(100, 100), clock=clock)
    assert [limiter.admit(["a"]) for _ in range(4)] == [True, True, True, False]
    assert limiter.is_exhausted(["a"])
    assert not limiter.is_exhausted(["b"])
    clock.now = 2.0
    assert [limiter.admit(["a"]) for _ in range(3)] == [True, True, False]
    assert not limiter.admit(["b"], cost=4)
    assert limiter.admit(["b"], cost=3)


def test_six_networks_cannot_use_up_what_all_share() -> None:
    limiter = RateLimiter(Rate(10, 10), Rate(60, 60), clock=Clock())
    for number in range(6):
        assert all(limiter.admit([f"network {number}"]) for _ in range(10))
    assert limiter.admit(["a seventh"])
    assert not limiter.admit(["a seventh"])
    assert limiter.admit(["an eighth"])


def test_one_ipv6_customer_with_many_64s_is_one_network() -> None:
    limiter = RateLimiter(Rate(10, 10), Rate(10_000, 10_000), clock=Clock())
    admitted = sum(limiter.admit(rate_keys(f"2001:db8:1:{number:x}::1")) for number in range(1000))
    assert admitted == 10 * rates.WIDE_FACTOR


def test_the_table_of_networks_has_a_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_NETWORKS", 100)
    limiter = RateLimiter(Rate(10, 10), Rate(60, 60), clock=Clock())
    for number in range(1000):
        limiter.admit([f"network {number}"])
    assert len(limiter) == 100


def test_bodies_share_memory_and_the_largest_of_the_heaviest_network_is_evicted() -> None:
    budget = BodyBudget(limit=100)
    heavy = [budget.open(f"198.51.100.{number}") for number in range(2)]
    light = budget.open("192.0.2.1")
    budget.add(heavy[0], b"x" * 60)
    budget.add(heavy[1], b"x" * 30)
    budget.add(light, b"x" * 20)
    assert [body.is_evicted for body in (*heavy, light)] == [True, False, False]
    assert (budget.held, heavy[0].parts) == (50, [])
    budget.add(heavy[0], b"more of what was given up")
    for body in (*heavy, light, light):
        budget.close(body)
    assert budget.held == 0


def test_a_pool_refuses_work_beyond_its_threads_and_queue_until_some_is_done() -> None:
    release = threading.Event()
    done: list[bool] = []

    async def fill() -> None:
        pool = Pool(threads=1, queue=2)

        async def work() -> None:
            done.append(await pool.run(release.wait, 60))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            assert pool.is_full
            with pytest.raises(RequestRefused) as refused:
                await pool.run(print)
            assert (refused.value.status, refused.value.retry_after) == (503, 5)
            release.set()
        assert not pool.is_full

    anyio.run(fill)
    assert done == [True] * 3


@pytest.mark.parametrize("value", ["*", "10.0.0.0/8,*", "0.0.0.0/0", "::/0", "", ",", "nonsense", "10.0.0.1,,10.0.0.2"])
def test_a_trusted_proxy_must_not_be_the_whole_internet(value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(web_trusted_proxies=value)
    assert "R8SCAN_WEB_TRUSTED_PROXIES" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_proxies_are_addresses_or_networks() -> None:
    assert load_settings(web_trusted_proxies="10.0.0.1, fd00::/8").web_trusted_proxies == "10.0.0.1,fd00::/8"

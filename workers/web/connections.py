"""Which connections are held open: bounded in total and for each address, and shared fairly among networks.

Pure bookkeeping, without sockets. A connection that waits for its client costs the client nothing, so it is the first
to be given up: when an address or the whole server is full, the oldest waiting connection of the heaviest network is
closed for the newcomer. A client that sends its request at once is therefore served in any flood of silent ones.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable

from scanner.compromise.networks import connection_keys, parse_address

MAX_CONNECTIONS = 512
"""Connections in total. One holds at most about 130 kB while its body arrives."""
MAX_CONNECTIONS_PER_ADDRESS = 256
"""Connections of one IPv4 address or IPv6 /64 that is no trusted proxy."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Seat:
    """One connection. `is_waiting`: it waits for bytes of its client. `served`: requests that it has brought."""

    __slots__ = ("address", "close", "is_waiting", "network", "served")

    def __init__(self, address: str, network: str, close: Callable[[], None]) -> None:
        self.address = address
        self.network = network
        self.close = close
        self.is_waiting = True
        self.served = 0


class ConnectionTable:
    """The open connections; `counts` says how many were refused or given up, by reason."""

    def __init__(
        self,
        trusted: tuple[Network, ...] = (),
        *,
        total: int = MAX_CONNECTIONS,
        per_address: int = MAX_CONNECTIONS_PER_ADDRESS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._trusted = trusted
        self._total = total
        self._per_address = per_address
        # Dictionaries keep their order: the seat that has waited longest comes first.
        self._addresses: dict[str, dict[Seat, None]] = {}
        self._networks: dict[str, dict[Seat, None]] = {}
        self._held = 0

    def __len__(self) -> int:
        """Return how many connections are open."""
        return self._held

    def admit(self, host: str, close: Callable[[], None]) -> Seat | None:
        """Return a seat for a new connection, or None to refuse it. May close another connection to make room.

        Args:
            host: The peer's address.
            close: Closes the connection at once. It must not call back into this table before it returns.
        """
        address, network = connection_keys(host)
        is_trusted = self._is_trusted(host)
        own = self._addresses.get(address, {})
        if len(own) >= self._per_address and not is_trusted and not self._give_up(own, "address_full"):
            self.counts["refused_address_full"] += 1
            return None
        if self._held >= self._total and not self._give_up(self._heaviest(network), "server_full"):
            self.counts["refused_server_full"] += 1
            return None
        seat = Seat(address, network, close)
        self._addresses.setdefault(address, {})[seat] = None
        self._networks.setdefault(network, {})[seat] = None
        self._held += 1
        return seat

    def wait(self, seat: Seat, is_waiting: bool) -> None:
        """Note that the connection begins, or ends, waiting for its client."""
        seat.is_waiting = is_waiting
        for table, key in ((self._addresses, seat.address), (self._networks, seat.network)):
            seats = table.get(key, {})
            if seat in seats:
                del seats[seat]
                seats[seat] = None

    def release(self, seat: Seat) -> None:
        """Forget a connection that has ended. Doing so twice changes nothing."""
        if seat not in self._addresses.get(seat.address, {}):
            return
        for table, key in ((self._addresses, seat.address), (self._networks, seat.network)):
            del table[key][seat]
            if not table[key]:
                del table[key]
        self._held -= 1

    def _is_trusted(self, host: str) -> bool:
        address = parse_address(host) if self._trusted else None
        return address is not None and any(address in network for network in self._trusted)

    def _heaviest(self, newcomer: str) -> dict[Seat, None]:
        """Return the connections of the network with the most of them; the newcomer's own where it has as many."""
        most = max(self._networks, key=lambda network: len(self._networks[network]))
        own = self._networks.get(newcomer, {})
        return own if len(own) >= len(self._networks[most]) else self._networks[most]

    def _give_up(self, seats: dict[Seat, None], reason: str) -> bool:
        waiting = [seat for seat in seats if seat.is_waiting]
        # A connection that has brought requests is more likely a client's than one that never did.
        chosen = min(waiting, key=lambda seat: seat.served > 0, default=None)
        if chosen is None:
            return False
        self.counts[f"closed_{reason}"] += 1
        self.release(chosen)
        chosen.close()
        return True

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


class ConnectionEntry:
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
        self._addresses: dict[str, dict[ConnectionEntry, None]] = {}
        self._networks: dict[str, dict[ConnectionEntry, None]] = {}
        self._held = 0

    def __len__(self) -> int:
        """Return how many connections are open."""
        return self._held

    def admit(self, host: str, close: Callable[[], None]) -> ConnectionEntry | None:
        """Return a seat for a new connection, or None to refuse it. May close another connection to make room.

        Args:
            host: The peer's address.
            close: Closes the connection at once. It must not call back into this table before it returns.
        """
        address, network = connection_keys(host)
        is_trusted = self._is_trusted(host)
        from_address = self._addresses.get(address, {})
        if len(from_address) >= self._per_address and not is_trusted and not self._evict(from_address, "address_full"):
            self.counts["refused_address_full"] += 1
            return None
        if self._held >= self._total and not self._evict(self._heaviest(network), "server_full"):
            self.counts["refused_server_full"] += 1
            return None
        entry = ConnectionEntry(address, network, close)
        self._addresses.setdefault(address, {})[entry] = None
        self._networks.setdefault(network, {})[entry] = None
        self._held += 1
        return entry

    def wait(self, entry: ConnectionEntry, is_waiting: bool) -> None:
        """Note that the connection begins, or ends, waiting for its client."""
        entry.is_waiting = is_waiting
        for table, key in ((self._addresses, entry.address), (self._networks, entry.network)):
            entries = table.get(key, {})
            if entry in entries:
                del entries[entry]
                entries[entry] = None

    def release(self, entry: ConnectionEntry) -> None:
        """Forget a connection that has ended. Doing so twice changes nothing."""
        if entry not in self._addresses.get(entry.address, {}):
            return
        for table, key in ((self._addresses, entry.address), (self._networks, entry.network)):
            del table[key][entry]
            if not table[key]:
                del table[key]
        self._held -= 1

    def _is_trusted(self, host: str) -> bool:
        address = parse_address(host) if self._trusted else None
        return address is not None and any(address in network for network in self._trusted)

    def _heaviest(self, newcomer: str) -> dict[ConnectionEntry, None]:
        """Return the connections of the network with the most of them; the newcomer's own where it has as many."""
        most = max(self._networks, key=lambda network: len(self._networks[network]))
        from_network = self._networks.get(newcomer, {})
        return from_network if len(from_network) >= len(self._networks[most]) else self._networks[most]

    def _evict(self, entries: dict[ConnectionEntry, None], reason: str) -> bool:
        waiting = [entry for entry in entries if entry.is_waiting]
        # A connection that has brought requests is more likely a client's than one that never did.
        chosen = min(waiting, key=lambda entry: entry.served > 0, default=None)
        if chosen is None:
            return False
        self.counts[f"closed_{reason}"] += 1
        self.release(chosen)
        chosen.close()
        return True

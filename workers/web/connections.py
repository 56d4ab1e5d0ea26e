"""The open connections of the web server, with limits in total and for each address.

If a limit is reached, an open connection is closed to make room for a new one. Only connections on which the server
waits for the client are closed.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable

from scanner.compromise.networks import connection_keys, parse_address

MAX_CONNECTIONS = 512
"""The maximum number of open connections. Each uses at most about 130 kB while its body arrives."""
MAX_CONNECTIONS_PER_ADDRESS = 256
"""The maximum number of connections from an IPv4 address or IPv6 /64 network. Trusted proxies have no such limit."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConnectionEntry:
    """An open connection.

    Attributes:
        close: Closes the connection at once.
        is_waiting: Whether the server waits for the client. False while it prepares or sends a response.
        served: The number of responses that the server has sent on the connection.
    """

    __slots__ = ("address", "close", "is_waiting", "network", "served")

    def __init__(self, address: str, network: str, close: Callable[[], None]) -> None:
        self.address = address
        self.network = network
        self.close = close
        self.is_waiting = True
        self.served = 0


class ConnectionTable:
    """The open connections of one server. `counts` has the numbers of refused and closed connections, by reason."""

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
        # The inner dictionaries are ordered sets: the connection that has waited longest comes first.
        self._addresses: dict[str, dict[ConnectionEntry, None]] = {}
        self._networks: dict[str, dict[ConnectionEntry, None]] = {}
        self._held = 0

    def __len__(self) -> int:
        """Return how many connections are open."""
        return self._held

    def admit(self, host: str, close: Callable[[], None]) -> ConnectionEntry | None:
        """Return an entry for a new connection, or None if the server must refuse it. To make room, another connection
        may be closed.

        Args:
            host: The address of the client.
            close: Closes the new connection at once. It must not use this table.
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
        """Record whether the server waits for the client of this connection."""
        entry.is_waiting = is_waiting
        for table, key in ((self._addresses, entry.address), (self._networks, entry.network)):
            entries = table.get(key, {})
            if entry in entries:
                del entries[entry]
                entries[entry] = None

    def release(self, entry: ConnectionEntry) -> None:
        """Remove a connection that has ended. A second call does nothing."""
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
        """Return the connections of the network with the most connections, preferably the network of `newcomer`."""
        most = max(self._networks, key=lambda network: len(self._networks[network]))
        from_network = self._networks.get(newcomer, {})
        return from_network if len(from_network) >= len(self._networks[most]) else self._networks[most]

    def _evict(self, entries: dict[ConnectionEntry, None], reason: str) -> bool:
        waiting = [entry for entry in entries if entry.is_waiting]
        # Prefer to close a connection on which no request was answered, because it is probably not a real client's.
        chosen = min(waiting, key=lambda entry: entry.served > 0, default=None)
        if chosen is None:
            return False
        self.counts[f"closed_{reason}"] += 1
        self.release(chosen)
        chosen.close()
        return True

"""Converts IP addresses to network prefixes, and finds addresses in lists of networks."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

IPV4_PREFIX = 24
IPV6_PREFIX = 48
IPV6_CUSTOMER_PREFIX = 64
"""The prefix length of IPv6 networks in which requests are counted: a provider assigns at least a /64 to a customer."""
MAX_ADDRESS_LENGTH = 64
MAX_LINE_LENGTH = 1024
MAX_NETWORKS = 500_000

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class BadNetworks(ValueError):
    """Raised if a list of networks cannot be used. The message is one line."""


def parse_address(text: str) -> Address | None:
    """Return the IP address in the text, or None if there is none. An IPv4-mapped IPv6 address is returned as IPv4."""
    if len(text) > MAX_ADDRESS_LENGTH:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def prefix_of(address: Address) -> str:
    """Return the network that contains the address: /24 for IPv4, /48 for IPv6."""
    return _masked(address, IPV4_PREFIX if address.version == 4 else IPV6_PREFIX)


def _masked(address: Address, bits: int) -> str:
    shift = address.max_prefixlen - bits
    return f"{type(address)(int(address) >> shift << shift)}/{bits}"


def rate_keys(client: str) -> tuple[str, ...]:
    """Return the networks in which this client's requests are counted, the smallest first.

    For IPv4, this is the /24 network; for IPv6, the /64 and the /48 network. All texts that are not an IP address have
    the same key.
    """
    address = parse_address(client)
    if address is None:
        return ("unknown",)
    if address.version == 4:
        return (_masked(address, IPV4_PREFIX),)
    return (_masked(address, IPV6_CUSTOMER_PREFIX), _masked(address, IPV6_PREFIX))


def connection_keys(client: str) -> tuple[str, str]:
    """Return the two networks in which a client's connections are counted, the smaller first.

    For IPv4, they are the address itself and its /24 network; for IPv6, the /64 and the /48 network.
    """
    address = parse_address(client)
    if address is None:
        return ("unknown", "unknown")
    narrow = 32 if address.version == 4 else IPV6_CUSTOMER_PREFIX
    return (_masked(address, narrow), prefix_of(address))


class NetworkList:
    """A set of networks in which an address can be looked up quickly.

    Args:
        networks: Networks in CIDR notation, one in each line. `#` begins a comment.

    Raises:
        BadNetworks: A line is not a network, or there are too many lines.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        starts: dict[tuple[int, int], set[int]] = defaultdict(set)
        for number, line in enumerate(networks, 1):
            if number > MAX_NETWORKS:
                raise BadNetworks(f"has more than {MAX_NETWORKS} lines")
            text = line.partition("#")[0].strip()
            if text:
                version, bits, start = _parsed(text, number)
                starts[version, bits].add(start)
        self._starts = sorted(starts.items())

    def match(self, address: Address) -> str | None:
        """Return the largest network of the set that contains the address, in CIDR notation, or None."""
        value, longest = int(address), address.max_prefixlen
        for (version, bits), starts in self._starts:
            start = value >> (longest - bits) << (longest - bits)
            if version == address.version and start in starts:
                return f"{type(address)(start)}/{bits}"
        return None


def load(path: Path | None) -> NetworkList:
    """Return the networks listed in the file. If `path` is None, return an empty set.

    Raises:
        BadNetworks: The file cannot be read, or one of its lines is not a network.
    """
    if path is None:
        return _EMPTY
    try:
        return _load(path, path.stat().st_mtime_ns)
    except OSError as err:
        raise BadNetworks(f"cannot be read ({err.strerror})") from err


_EMPTY = NetworkList()


@lru_cache(maxsize=1)
def _load(path: Path, _: int) -> NetworkList:
    with path.open(encoding="ascii", errors="replace") as file:
        return NetworkList(iter(lambda: file.readline(MAX_LINE_LENGTH), ""))


def _parsed(text: str, number: int) -> tuple[int, int, int]:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadNetworks(f"line {number} is not a network in CIDR notation, such as 203.0.113.0/24") from None
    return network.version, network.prefixlen, int(network.network_address)
